/*
 * Pings over memif, both sides of it:
 *
 *     icmp respond master|slave PATH          answers until the peer goes
 *     icmp send    master|slave PATH COUNT    sends, and ends when COUNT answers have come
 *
 * A slave that responds passes the received buffers on without a copy. What is sent has a checksum,
 * and a payload that is compared. The responder is 10.0.0.2, the sender 10.0.0.1.
 */
#define _GNU_SOURCE
#include <libmemif.h>
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "check.h"

#define BURST 32
#define PAYLOAD 100
#define FRAME (ETH_HLEN + sizeof (struct iphdr) + sizeof (struct icmphdr) + PAYLOAD)

static const unsigned char here[ETH_ALEN] = { 2, 0, 0, 0, 0, 0xaa };
static const unsigned char all[ETH_ALEN] = { 255, 255, 255, 255, 255, 255 };

static memif_conn_handle_t conn;
static int is_master, sends, up, gone;
static unsigned answered, wanted, sent_so_far;
static unsigned char peer_mac[ETH_ALEN];
static int peer_known;

static uint16_t
checksum (const void *data, int len)
{
  const unsigned char *bytes = data;
  uint32_t sum = 0;
  int i;
  for (i = 0; i < len; i++)
    sum += i % 2 ? bytes[i] : bytes[i] << 8;
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return htons (~sum & 0xffff);
}

static int
on_connect (memif_conn_handle_t c, void *ctx)
{
  (void) ctx;
  up = 1;
  RETURNS (0, memif_refill_queue (c, 0, -1, 0));
  puts ("connected");
  fflush (stdout);
  return 0;
}

static int
on_disconnect (memif_conn_handle_t c, void *ctx)
{
  (void) c, (void) ctx;
  gone = up;
  up = 0;
  return 0;
}

/* Turns a request into its answer, in place; returns its length, or 0 to drop it. */
static uint32_t
answer (unsigned char *frame, uint32_t len)
{
  struct ether_header *eth = (void *) frame;
  unsigned char sender[ETH_ALEN];
  memcpy (sender, eth->ether_shost, ETH_ALEN);
  if (len >= ETH_HLEN + sizeof (struct ether_arp) && eth->ether_type == htons (ETHERTYPE_ARP))
    {
      struct ether_arp arp;
      unsigned char ip[4];
      memcpy (&arp, frame + ETH_HLEN, sizeof (arp));
      arp.ea_hdr.ar_op = htons (ARPOP_REPLY);
      memcpy (ip, arp.arp_tpa, 4);
      memcpy (arp.arp_tha, arp.arp_sha, ETH_ALEN);
      memcpy (arp.arp_tpa, arp.arp_spa, 4);
      memcpy (arp.arp_sha, here, ETH_ALEN);
      memcpy (arp.arp_spa, ip, 4);
      memcpy (frame + ETH_HLEN, &arp, sizeof (arp));
    }
  else if (len >= FRAME - PAYLOAD && eth->ether_type == htons (ETHERTYPE_IP))
    {
      struct iphdr ip;
      struct icmphdr icmp;
      unsigned char *at = frame + ETH_HLEN + sizeof (ip);
      memcpy (&ip, frame + ETH_HLEN, sizeof (ip));
      memcpy (&icmp, at, sizeof (icmp));
      if (ip.protocol != IPPROTO_ICMP || icmp.type != ICMP_ECHO)
        return 0;
      uint32_t from = ip.saddr;
      ip.saddr = ip.daddr, ip.daddr = from;
      icmp.type = ICMP_ECHOREPLY, icmp.checksum = 0;
      memcpy (frame + ETH_HLEN, &ip, sizeof (ip));
      memcpy (at, &icmp, sizeof (icmp));
      icmp.checksum = checksum (at, ntohs (ip.tot_len) - sizeof (ip));
      memcpy (at, &icmp, sizeof (icmp));
      answered++;
    }
  else
    return 0;
  memcpy (eth->ether_dhost, sender, ETH_ALEN);
  memcpy (eth->ether_shost, here, ETH_ALEN);
  return len;
}

static void
respond (memif_buffer_t *bufs, uint16_t n)
{
  memif_buffer_t tx[BURST];
  uint16_t made, sent;
  int i, count = 0;
  for (i = 0; i < n; i++)
    if (answer (bufs[i].data, bufs[i].len))
      bufs[count++] = bufs[i];
  if (is_master)
    {
      /* Copied: the buffers are the peer's, which may be smaller than a frame. */
      for (i = made = sent = 0; i < count; i++)
        {
          uint16_t pieces, part, j, at = 0;
          RETURNS (0, memif_buffer_alloc (conn, 0, tx, 1, &pieces, bufs[i].len));
          for (j = 0; j < pieces; at += tx[j++].len)
            memcpy (tx[j].data, (char *) bufs[i].data + at, tx[j].len);
          RETURNS (0, memif_tx_burst (conn, 0, tx, pieces, &part));
          CHECK (part == pieces);
          made++, sent++;
        }
    }
  else
    {
      RETURNS (0, memif_buffer_enq_tx (conn, 0, bufs, count, &made));
      RETURNS (0, memif_tx_burst (conn, 0, bufs, made, &sent));
    }
  CHECK (made == count && sent == count);
}

static void
request (unsigned char *frame, uint32_t *len, unsigned sequence)
{
  struct ether_header eth;
  memcpy (eth.ether_shost, here, ETH_ALEN);
  memcpy (eth.ether_dhost, peer_known ? peer_mac : all, ETH_ALEN);
  eth.ether_type = htons (peer_known ? ETHERTYPE_IP : ETHERTYPE_ARP);
  memcpy (frame, &eth, sizeof (eth));
  if (!peer_known)
    {
      struct ether_arp arp;
      memset (&arp, 0, sizeof (arp));
      arp.ea_hdr.ar_hrd = htons (ARPHRD_ETHER), arp.ea_hdr.ar_pro = htons (ETHERTYPE_IP);
      arp.ea_hdr.ar_hln = ETH_ALEN, arp.ea_hdr.ar_pln = 4, arp.ea_hdr.ar_op = htons (ARPOP_REQUEST);
      memcpy (arp.arp_sha, here, ETH_ALEN);
      memcpy (arp.arp_spa, "\012\000\000\001", 4);
      memcpy (arp.arp_tpa, "\012\000\000\002", 4);
      memcpy (frame + ETH_HLEN, &arp, sizeof (arp));
      *len = ETH_HLEN + sizeof (arp);
      return;
    }
  struct iphdr ip;
  struct icmphdr icmp;
  unsigned char *at = frame + ETH_HLEN + sizeof (ip);
  memset (&ip, 0, sizeof (ip));
  memset (&icmp, 0, sizeof (icmp));
  ip.version = 4, ip.ihl = 5, ip.ttl = 64, ip.protocol = IPPROTO_ICMP;
  ip.tot_len = htons (FRAME - ETH_HLEN);
  ip.saddr = inet_addr ("10.0.0.1"), ip.daddr = inet_addr ("10.0.0.2");
  ip.check = checksum (&ip, sizeof (ip));
  icmp.type = ICMP_ECHO, icmp.un.echo.id = htons (7), icmp.un.echo.sequence = htons (sequence);
  memcpy (frame + ETH_HLEN, &ip, sizeof (ip));
  memcpy (at, &icmp, sizeof (icmp));
  memset (at + sizeof (icmp), sequence, PAYLOAD);
  icmp.checksum = checksum (at, sizeof (icmp) + PAYLOAD);
  memcpy (at, &icmp, sizeof (icmp));
  *len = FRAME;
}

static void
receive_answers (memif_buffer_t *bufs, uint16_t n)
{
  int i, j;
  for (i = 0; i < n; i++)
    {
      unsigned char *frame = bufs[i].data;
      struct ether_header *eth = (void *) frame;
      if (eth->ether_type == htons (ETHERTYPE_ARP))
        {
          memcpy (peer_mac, eth->ether_shost, ETH_ALEN);
          peer_known = 1;
          continue;
        }
      struct icmphdr icmp;
      unsigned char *at = frame + ETH_HLEN + sizeof (struct iphdr);
      CHECK (bufs[i].len == FRAME && memcmp (eth->ether_dhost, here, ETH_ALEN) == 0);
      memcpy (&icmp, at, sizeof (icmp));
      CHECK (icmp.type == ICMP_ECHOREPLY && ntohs (icmp.un.echo.id) == 7);
      CHECK (ntohs (icmp.un.echo.sequence) == answered % 65536);
      CHECK (checksum (at, sizeof (icmp) + PAYLOAD) == 0);
      for (j = 0; j < PAYLOAD; j++)
        CHECK (at[sizeof (icmp) + j] == (unsigned char) answered);
      answered++;
    }
}

/* Keeps up to a burst of requests under way. */
static void
send_requests (void)
{
  memif_buffer_t bufs[BURST];
  uint16_t made, sent;
  int i, count = peer_known ? BURST - (int) (sent_so_far - answered) : 1;
  if (count > (int) (wanted - sent_so_far))
    count = wanted - sent_so_far;
  if (count <= 0)
    return;
  int err = memif_buffer_alloc (conn, 0, bufs, count, &made, FRAME);
  CHECK (err == 0 || err == MEMIF_ERR_NOBUF_RING);
  for (i = 0; i < made; i++)
    request (bufs[i].data, &bufs[i].len, peer_known ? sent_so_far + i : 0);
  RETURNS (0, memif_tx_burst (conn, 0, bufs, made, &sent));
  CHECK (sent == made);
  sent_so_far += peer_known ? made : 0;
}

static int
on_interrupt (memif_conn_handle_t c, void *ctx, uint16_t qid)
{
  memif_buffer_t bufs[BURST];
  uint16_t n;
  (void) ctx;
  int err = memif_rx_burst (c, qid, bufs, BURST, &n);
  if (err == MEMIF_ERR_DISCONNECTED)
    /* The peer broke the protocol: the next poll ends the link. */
    return 0;
  CHECK (err == 0 || err == MEMIF_ERR_NOBUF);
  if (sends)
    receive_answers (bufs, n);
  else
    respond (bufs, n);
  return memif_refill_queue (c, qid, n, 0);
}

int
main (int argc, char **argv)
{
  memif_socket_args_t sock_args;
  memif_conn_args_t args;
  memif_socket_handle_t sock = NULL;
  CHECK (argc >= 4);
  sends = strcmp (argv[1], "send") == 0;
  is_master = strcmp (argv[2], "master") == 0;
  wanted = sends ? atoi (argv[4]) : 0;
  memset (&sock_args, 0, sizeof (sock_args));
  memset (&args, 0, sizeof (args));
  strcpy (sock_args.path, argv[3]);
  strcpy (sock_args.app_name, "icmp");
  sock_args.connection_request_timer.it_value.tv_nsec = 50000000;
  sock_args.connection_request_timer.it_interval.tv_nsec = 50000000;
  RETURNS (0, memif_create_socket (&sock, &sock_args, NULL));
  args.socket = sock, args.is_master = is_master, args.interface_id = 3;
  strcpy ((char *) args.interface_name, "icmp0");
  RETURNS (0, memif_create (&conn, &args, on_connect, on_disconnect, on_interrupt, NULL));
  while (!gone && !(sends && answered == wanted))
    {
      /* A peer may miss a request for an interrupt: it is looked at every now and then. */
      RETURNS (0, memif_poll_event (sock, 10));
      if (up)
        RETURNS (0, on_interrupt (conn, NULL, 0));
      if (up && sends)
        send_requests ();
    }
  printf ("answered %u\n", answered);
  RETURNS (0, memif_delete (&conn));
  RETURNS (0, memif_delete_socket (&sock));
  CHECK (!sends || answered == wanted);
  return 0;
}
