/*
 * Packets without an Ethernet header, sent back to where they come from:
 *
 *     bounce master|slave PATH MODE     until the peer goes
 *
 * MODE is the number of an interface mode. In IP mode the addresses of a packet, IPv4 or IPv6, are
 * swapped; what packets are in another mode is the peer's affair, and they stay as they are.
 */
#define _GNU_SOURCE
#include <libmemif.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stddef.h>
#include <string.h>

#include "check.h"

#define BURST 32

static memif_conn_handle_t conn;
static int is_master, mode, up, gone;
static unsigned returned_packets;

static int
on_connect (memif_conn_handle_t c, void *ctx)
{
  memif_details_t md;
  char buf[4096];
  (void) ctx;
  up = 1;
  RETURNS (0, memif_refill_queue (c, 0, -1, 0));
  RETURNS (0, memif_get_details (c, &md, buf, sizeof (buf)));
  CHECK (md.mode == mode);
  puts ("connected");
  fflush (stdout);
  return 0;
}

static int
on_disconnect (memif_conn_handle_t c, void *ctx)
{
  memif_details_t md;
  char buf[4096];
  (void) ctx;
  if (!up)
    {
      RETURNS (0, memif_get_details (c, &md, buf, sizeof (buf)));
      printf ("refused: %s\n", (char *) md.error);
    }
  gone = 1, up = 0;
  return 0;
}

/* Swaps the addresses of a packet, which begins with its IP header. */
static void
turn_around (unsigned char *packet, uint32_t len)
{
  unsigned char address[16];
  unsigned at, size;
  CHECK (len >= sizeof (struct iphdr));
  if (packet[0] >> 4 == 4)
    at = offsetof (struct iphdr, saddr), size = 4;
  else
    {
      CHECK (packet[0] >> 4 == 6 && len >= sizeof (struct ip6_hdr));
      at = offsetof (struct ip6_hdr, ip6_src), size = 16;
    }
  memcpy (address, packet + at, size);
  memcpy (packet + at, packet + at + size, size);
  memcpy (packet + at + size, address, size);
}

static void
bounce (void)
{
  memif_buffer_t bufs[BURST], tx[BURST];
  uint16_t n, made, sent;
  int i, j, begins = 1;
  int err = memif_rx_burst (conn, 0, bufs, BURST, &n);
  CHECK (err == 0 || err == MEMIF_ERR_NOBUF);
  for (i = 0; i < n; i++)
    {
      if (begins && mode == MEMIF_INTERFACE_MODE_IP)
        turn_around (bufs[i].data, bufs[i].len);
      begins = !(bufs[i].flags & MEMIF_BUFFER_FLAG_NEXT);
      returned_packets += begins;
    }
  if (is_master)
    /* Copied, as the buffers are the peer's. */
    for (i = 0; i < n; i++)
      {
        char *from = bufs[i].data;
        RETURNS (0, memif_buffer_alloc (conn, 0, tx, 1, &made, bufs[i].len));
        for (j = 0; j < made; from += tx[j++].len)
          memcpy (tx[j].data, from, tx[j].len);
        tx[made - 1].flags = bufs[i].flags;
        RETURNS (0, memif_tx_burst (conn, 0, tx, made, &sent));
        CHECK (sent == made);
      }
  else
    {
      RETURNS (0, memif_buffer_enq_tx (conn, 0, bufs, n, &made));
      RETURNS (0, memif_tx_burst (conn, 0, bufs, made, &sent));
      CHECK (sent == n);
    }
  RETURNS (0, memif_refill_queue (conn, 0, n, 0));
}

int
main (int argc, char **argv)
{
  memif_socket_args_t sock_args;
  memif_conn_args_t args;
  memif_socket_handle_t sock = NULL;
  CHECK (argc == 4);
  is_master = strcmp (argv[1], "master") == 0;
  mode = atoi (argv[3]);
  memset (&sock_args, 0, sizeof (sock_args));
  memset (&args, 0, sizeof (args));
  strcpy (sock_args.path, argv[2]);
  strcpy (sock_args.app_name, "bounce");
  sock_args.connection_request_timer.it_value.tv_nsec = 50000000;
  sock_args.connection_request_timer.it_interval.tv_nsec = 50000000;
  RETURNS (0, memif_create_socket (&sock, &sock_args, NULL));
  args.socket = sock, args.is_master = is_master, args.interface_id = 3, args.mode = mode;
  args.buffer_size = 1024;
  strcpy ((char *) args.interface_name, "bounce0");
  RETURNS (0, memif_create (&conn, &args, on_connect, on_disconnect, NULL, NULL));
  while (!gone)
    {
      RETURNS (0, memif_poll_event (sock, 1));
      if (up)
        bounce ();
    }
  printf ("returned %u\n", returned_packets);
  RETURNS (0, memif_delete (&conn));
  RETURNS (0, memif_delete_socket (&sock));
  return 0;
}
