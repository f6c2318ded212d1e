/*
 * Every function of the API, and every error that a call can return, with both ends of a link in
 * one process.
 */
#define _GNU_SOURCE
#include <libmemif.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

/* One end of a link, and what its callbacks have counted. */
struct end
{
  memif_conn_handle_t conn;
  memif_socket_handle_t sock;
  int connected, disconnected, interrupts;
  int headroom;
  int delete_when_lost;
};

static char *folder;
static char path[108];

static int
on_connect (memif_conn_handle_t conn, void *ctx)
{
  struct end *end = ctx;
  CHECK (end->conn == conn || end->conn == NULL);
  end->connected++;
  RETURNS (0, memif_refill_queue (conn, 0, -1, end->headroom));
  return 0;
}

static int
on_disconnect (memif_conn_handle_t conn, void *ctx)
{
  struct end *end = ctx;
  end->disconnected++;
  CHECK (memif_get_socket_handle (conn) == end->sock);
  if (end->delete_when_lost)
    {
      /* The handle is deleted while its own callback runs. */
      memif_conn_handle_t again = conn;
      RETURNS (0, memif_delete (&again));
      end->conn = NULL;
    }
  return 0;
}

static int
on_interrupt (memif_conn_handle_t conn, void *ctx, uint16_t qid)
{
  struct end *end = ctx;
  CHECK (conn == end->conn && qid == 0);
  end->interrupts++;
  return 77;
}

static memif_socket_handle_t
new_socket (const char *where)
{
  memif_socket_args_t args;
  memif_socket_handle_t sock = NULL;
  memset (&args, 0, sizeof (args));
  strcpy (args.path, where);
  strcpy (args.app_name, "calls");
  RETURNS (0, memif_create_socket (&sock, &args, NULL));
  return sock;
}

static memif_conn_args_t
conn_args (memif_socket_handle_t sock, int is_master)
{
  memif_conn_args_t args;
  memset (&args, 0, sizeof (args));
  args.socket = sock;
  args.is_master = is_master;
  args.interface_id = 5;
  strcpy ((char *) args.interface_name, is_master ? "master" : "slave");
  strcpy ((char *) args.secret, "psst");
  args.log2_ring_size = 4;
  args.buffer_size = 256;
  return args;
}

static void
drive (struct end *a, struct end *b)
{
  /* A signal or a callback's result is no error here. */
  memif_poll_event (a->sock, 0);
  memif_poll_event (b->sock, 0);
}

static void
start_pair (struct end *master, struct end *slave, memif_on_interrupt_t *interrupt)
{
  memset (master, 0, sizeof (*master));
  memset (slave, 0, sizeof (*slave));
  master->sock = new_socket (path);
  slave->sock = new_socket (path);
  memif_conn_args_t args = conn_args (master->sock, 1);
  RETURNS (0, memif_create (&master->conn, &args, on_connect, on_disconnect, interrupt, master));
  args = conn_args (slave->sock, 0);
  RETURNS (0, memif_create (&slave->conn, &args, on_connect, on_disconnect, interrupt, slave));
  UNTIL (master->connected && slave->connected, drive (master, slave));
}

static void
end_pair (struct end *master, struct end *slave)
{
  RETURNS (0, memif_delete (&slave->conn));
  RETURNS (0, memif_delete (&master->conn));
  CHECK (slave->conn == NULL && master->conn == NULL);
  RETURNS (0, memif_delete_socket (&slave->sock));
  RETURNS (0, memif_delete_socket (&master->sock));
  CHECK (slave->sock == NULL && master->sock == NULL);
  CHECK (access (path, F_OK) != 0);
}

/* Sends one packet of `len` bytes, in as many buffers as it takes. */
static void
send_one (memif_conn_handle_t conn, int len, unsigned char first)
{
  memif_buffer_t bufs[64];
  uint16_t n, sent;
  int i, at = 0, j;
  RETURNS (0, memif_buffer_alloc (conn, 0, bufs, 1, &n, len));
  for (i = 0; i < n; i++)
    for (j = 0; j < (int) bufs[i].len; j++)
      ((unsigned char *) bufs[i].data)[j] = first + at++;
  CHECK (at == len);
  RETURNS (0, memif_tx_burst (conn, 0, bufs, n, &sent));
  CHECK (sent == n);
}

/* Receives one packet of `len` bytes, and keeps its buffers. */
static int
receive_one (memif_conn_handle_t conn, memif_buffer_t *bufs, int len, unsigned char first)
{
  uint16_t n = 0;
  int i, j, at = 0;
  UNTIL (n != 0, RETURNS (0, memif_rx_burst (conn, 0, bufs, 64, &n)));
  for (i = 0; i < n; i++)
    {
      CHECK (!(bufs[i].flags & MEMIF_BUFFER_FLAG_NEXT) == (i == n - 1));
      for (j = 0; j < (int) bufs[i].len; j++)
        CHECK (((unsigned char *) bufs[i].data)[j] == (unsigned char) (first + at++));
    }
  CHECK (at == len);
  return n;
}

static void
texts_and_versions (void)
{
  int i;
  CHECK (memif_get_version () == 0x0200 && strcmp (memif_get_version_str (), "2.0") == 0);
  for (i = MEMIF_ERR_SUCCESS; i <= MEMIF_ERR_PRIVHDR; i++)
    CHECK (strlen (memif_strerror (i)) > 4 && strlen (memif_strerror (i)) < 256);
  CHECK (strcmp (memif_strerror (40), memif_strerror (-1)) == 0);
}

/* NULL, and handles that are none, in each call. */
static void
nothing_is_dereferenced (void)
{
  memif_conn_handle_t conn = NULL, gone = (void *) 0x5550123456;
  memif_socket_handle_t sock = NULL;
  memif_details_t md;
  memif_buffer_t buf;
  char text[64];
  uint16_t n;
  int fd = 3, i;
  struct itimerspec timer = { { 0, 0 }, { 0, 0 } };
  for (i = 0; i < 2; i++, conn = gone, sock = gone)
    {
      RETURNS (MEMIF_ERR_NOCONN, memif_get_queue_efd (conn, 0, &fd));
      CHECK (fd == -1);
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_get_queue_efd (conn, 0, NULL));
      RETURNS (MEMIF_ERR_NOCONN, memif_set_rx_mode (conn, MEMIF_RX_MODE_POLLING, 0));
      RETURNS (MEMIF_ERR_NOCONN, memif_get_details (conn, &md, text, sizeof (text)));
      RETURNS (MEMIF_ERR_NOCONN, memif_buffer_enq_tx (conn, 0, &buf, 1, &n));
      RETURNS (MEMIF_ERR_NOCONN, memif_buffer_requeue (conn, &buf, &buf));
      RETURNS (MEMIF_ERR_NOCONN, memif_buffer_alloc (conn, 0, &buf, 1, &n, 64));
      RETURNS (MEMIF_ERR_NOCONN, memif_set_next_free_buffer (conn, 0, &buf));
      RETURNS (MEMIF_ERR_NOCONN, memif_refill_queue (conn, 0, 1, 0));
      RETURNS (MEMIF_ERR_NOCONN, memif_tx_burst (conn, 0, &buf, 1, &n));
      RETURNS (MEMIF_ERR_NOCONN, memif_rx_burst (conn, 0, &buf, 1, &n));
      RETURNS (MEMIF_ERR_NOCONN, memif_request_connection (conn));
      RETURNS (MEMIF_ERR_NOCONN, memif_delete (&conn));
      CHECK (memif_get_socket_handle (conn) == NULL);
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_poll_event (sock, 0));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_cancel_poll_event (sock));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_connection_request_timer (sock, timer));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_listener_fd (sock, 0));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_delete_socket (&sock));
      CHECK (memif_get_listener_fd (sock) == -1 && memif_get_socket_path (sock) == NULL);
      memif_register_external_region (sock, NULL, NULL, NULL, NULL);
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_control_fd_handler (sock, MEMIF_FD_EVENT_READ));
    }
  RETURNS (MEMIF_ERR_NOCONN, memif_delete (NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_delete_socket (NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create_socket (NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create_socket (&sock, NULL, NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (NULL, NULL, NULL, NULL, NULL, NULL));
}

static void
what_create_refuses (void)
{
  memif_socket_handle_t sock = new_socket (path);
  memif_conn_handle_t conn = (void *) 1, other = NULL;
  memif_conn_args_t args = conn_args (sock, 1);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&other, NULL, NULL, NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_CONN, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  conn = NULL;
  args.log2_ring_size = 15;
  RETURNS (MEMIF_ERR_MAX_RING, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  args = conn_args (sock, 0);
  args.buffer_size = 1;
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  args = conn_args (sock, 1);
  args.mode = 3;
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  args = conn_args (NULL, 1);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  /* Rings and buffers beyond what descriptors reach. */
  args = conn_args (sock, 0);
  args.num_s2m_rings = 255, args.log2_ring_size = 14, args.buffer_size = 65535;
  RETURNS (MEMIF_ERR_NOMEM, memif_create (&conn, &args, NULL, NULL, NULL, NULL));

  /* Defaults are filled in; without callbacks nothing is called. */
  memset (&args, 0, sizeof (args));
  args.socket = sock, args.is_master = 1;
  RETURNS (0, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  CHECK (args.log2_ring_size == 10 && args.buffer_size == 2048);
  CHECK (args.num_s2m_rings == 1 && args.num_m2s_rings == 1);
  CHECK (memif_get_listener_fd (sock) >= 0 && access (path, F_OK) == 0);
  RETURNS (0, memif_request_connection (conn));
  RETURNS (MEMIF_ERR_ID, memif_create (&other, &args, NULL, NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_delete_socket (&sock));

  /* A live server's address is in use. */
  memif_socket_handle_t second = new_socket (path);
  args.socket = second;
  RETURNS (MEMIF_ERR_SYSCALL, memif_create (&other, &args, NULL, NULL, NULL, NULL));
  RETURNS (0, memif_delete_socket (&second));
  RETURNS (0, memif_delete (&conn));
  RETURNS (0, memif_delete_socket (&sock));

  /* Where no socket can be. */
  char where[108];
  snprintf (where, sizeof (where), "%s/missing/m.sock", folder);
  sock = args.socket = new_socket (where);
  RETURNS (MEMIF_ERR_NO_FILE, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  RETURNS (0, memif_delete_socket (&sock));
  snprintf (where, sizeof (where), "%s/file", folder);
  close (open (where, O_CREAT | O_WRONLY, 0600));
  sock = args.socket = new_socket (where);
  RETURNS (MEMIF_ERR_FILE_NOT_SOCK, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  /* A client is made all the same: its server may come later. */
  args.is_master = 0;
  RETURNS (0, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_CONNREFUSED, memif_request_connection (conn));
  RETURNS (0, memif_delete (&conn));
  RETURNS (0, memif_delete_socket (&sock));
  unlink (where);
  if (geteuid () != 0)
    {
      snprintf (where, sizeof (where), "%s/closed", folder);
      CHECK (mkdir (where, 0500) == 0);
      strcat (where, "/m.sock");
      sock = args.socket = new_socket (where);
      args.is_master = 1;
      RETURNS (MEMIF_ERR_ACCES, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
      RETURNS (0, memif_delete_socket (&sock));
      snprintf (where, sizeof (where), "%s/closed", folder);
      rmdir (where);
    }

  /* An empty path is the default one. */
  sock = new_socket ("");
  CHECK (memif_get_socket_path (sock)[0] == 0);
  RETURNS (0, memif_delete_socket (&sock));

  /* Without descriptors. */
  struct rlimit before, none;
  CHECK (getrlimit (RLIMIT_NOFILE, &before) == 0);
  none = before, none.rlim_cur = 3;
  sock = args.socket = new_socket (path);
  args.is_master = 0;
  CHECK (setrlimit (RLIMIT_NOFILE, &none) == 0);
  RETURNS (MEMIF_ERR_PROC_FILE_LIMIT, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  CHECK (setrlimit (RLIMIT_NOFILE, &before) == 0);
  RETURNS (0, memif_delete_socket (&sock));
}

static void
a_link_is_described (void)
{
  struct end master, slave;
  memif_details_t md;
  char buf[2048];
  int len, fd;
  start_pair (&master, &slave, NULL);
  RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
  CHECK (strcmp ((char *) md.if_name, "slave") == 0);
  CHECK (strcmp ((char *) md.inst_name, "calls") == 0);
  CHECK (strcmp ((char *) md.remote_if_name, "master") == 0);
  CHECK (strcmp ((char *) md.remote_inst_name, "calls") == 0);
  CHECK (strcmp ((char *) md.secret, "psst") == 0);
  CHECK (strcmp ((char *) md.socket_path, path) == 0);
  CHECK (md.id == 5 && md.role == 1 && md.mode == 0 && md.link_up_down == 1);
  CHECK (md.error[0] == 0 && md.regions_num == 2 && md.rx_queues_num == 1);
  memif_region_details_t region;
  memcpy (&region, &md.regions[1], sizeof (region));
  CHECK (region.index == 1 && region.addr != NULL && region.fd > 0 && !region.is_external);
  CHECK (region.size >= 2 * 16 * 256);
  memif_queue_details_t queue;
  memcpy (&queue, &md.rx_queues[0], sizeof (queue));
  CHECK (queue.qid == 0 && queue.region == 0 && queue.ring_size == 16);
  CHECK (queue.head == 16 && queue.tail == 0 && queue.flags == 0 && queue.buffer_size == 256);
  RETURNS (0, memif_get_details (master.conn, &md, buf, sizeof (buf)));
  CHECK (md.role == 0 && md.regions_num == 2 && md.tx_queues_num == 1);
  CHECK (md.regions != NULL && md.link_up_down == 1);

  /* Any buffer that is too small is an error, and is not written beyond. */
  for (len = -1; len < 400; len++)
    {
      char *small = malloc (len > 0 ? len : 1);
      int err = memif_get_details (slave.conn, &md, small, len);
      CHECK (err == 0 || err == MEMIF_ERR_NOBUF_DET);
      CHECK (len < 200 ? err != 0 : 1);
      free (small);
    }
  RETURNS (0, memif_get_details (slave.conn, &md, buf, 400));
  RETURNS (MEMIF_ERR_NOBUF_DET, memif_get_details (slave.conn, &md, NULL, 400));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_get_details (slave.conn, NULL, buf, 400));

  RETURNS (0, memif_set_rx_mode (slave.conn, MEMIF_RX_MODE_POLLING, 0));
  RETURNS (0, memif_get_details (master.conn, &md, buf, sizeof (buf)));
  memcpy (&queue, &md.tx_queues[0], sizeof (queue));
  CHECK (queue.flags == MEMIF_QUEUE_FLAG_POLLING);
  RETURNS (0, memif_set_rx_mode (slave.conn, MEMIF_RX_MODE_INTERRUPT, 0));
  RETURNS (MEMIF_ERR_QID, memif_set_rx_mode (slave.conn, MEMIF_RX_MODE_INTERRUPT, 1));

  RETURNS (0, memif_get_queue_efd (slave.conn, 0, &fd));
  CHECK (fd >= 0);
  RETURNS (MEMIF_ERR_QID, memif_get_queue_efd (slave.conn, 1, &fd));
  RETURNS (MEMIF_ERR_ALRCONN, memif_request_connection (slave.conn));
  RETURNS (MEMIF_ERR_ALRCONN, memif_request_connection (master.conn));
  CHECK (memif_get_socket_handle (slave.conn) == slave.sock);
  CHECK (strcmp (memif_get_socket_path (slave.sock), path) == 0);

  /* The peer's reason is kept. */
  RETURNS (0, memif_delete (&master.conn));
  CHECK (master.disconnected == 1);
  UNTIL (slave.disconnected, drive (&master, &slave));
  RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
  CHECK (md.error[0] != 0 && md.link_up_down == 0 && md.regions_num == 0);
  /* Without a link. */
  memif_buffer_t entry;
  uint16_t n;
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_get_queue_efd (slave.conn, 0, &fd));
  RETURNS (MEMIF_ERR_QID, memif_set_rx_mode (slave.conn, MEMIF_RX_MODE_POLLING, 0));
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_buffer_enq_tx (slave.conn, 0, &entry, 1, &n));
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_buffer_alloc (slave.conn, 0, &entry, 1, &n, 64));
  RETURNS (MEMIF_ERR_QID, memif_set_next_free_buffer (slave.conn, 0, &entry));
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_refill_queue (slave.conn, 0, 1, 0));
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_tx_burst (slave.conn, 0, &entry, 1, &n));
  RETURNS (MEMIF_ERR_DISCONNECTED, memif_rx_burst (slave.conn, 0, &entry, 1, &n));
  RETURNS (0, memif_delete (&slave.conn));
  /* As libmemif does, also without a link. */
  CHECK (slave.disconnected == 2);
  RETURNS (0, memif_delete_socket (&slave.sock));
  RETURNS (0, memif_delete_socket (&master.sock));
}

static void
packets_in_both_directions (void)
{
  struct end master, slave;
  memif_buffer_t bufs[64], more[64];
  uint16_t n, sent, i;
  int len, round;
  start_pair (&master, &slave, NULL);
  /* Through the end of the rings, and chained. */
  for (round = 0; round < 50; round++)
    {
      len = 1 + (round * 97) % 2000;
      send_one (slave.conn, len, round);
      n = receive_one (master.conn, bufs, len, round);
      RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
      send_one (master.conn, len, round + 1);
      n = receive_one (slave.conn, bufs, len, round + 1);
      RETURNS (0, memif_refill_queue (slave.conn, 0, n, 0));
    }

  memif_conn_handle_t conns[] = { slave.conn, master.conn };
  for (i = 0; i < 2; i++)
    {
      memif_conn_handle_t tx = conns[i], rx = conns[1 - i];
      /* A full ring: what fits is there, a packet that does not fit whole is not. */
      RETURNS (MEMIF_ERR_NOBUF_RING, memif_buffer_alloc (tx, 0, bufs, 64, &n, 256));
      CHECK (n == 16);
      /* Sent in part; the rest is rewound, and another packet takes its place. */
      RETURNS (0, memif_tx_burst (tx, 0, bufs, 10, &sent));
      CHECK (sent == 10);
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_next_free_buffer (tx, 0, &bufs[9]));
      RETURNS (0, memif_set_next_free_buffer (tx, 0, &bufs[12]));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, &bufs[11], 1, &sent));
      CHECK (sent == 0);
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, &bufs[10], 3, &sent));
      CHECK (sent == 2);
      RETURNS (MEMIF_ERR_NOBUF_RING, memif_buffer_alloc (tx, 0, more, 2, &n, 600));
      CHECK (n == 3 && more[0].desc_index == bufs[12].desc_index);
      CHECK (more[0].flags == MEMIF_BUFFER_FLAG_NEXT && more[2].flags == 0);
      CHECK (more[2].len == 600 - 2 * 256);
      /* The beginning of a packet waits for its end. */
      RETURNS (0, memif_tx_burst (tx, 0, more, 1, &sent));
      RETURNS (0, memif_rx_burst (rx, 0, bufs, 64, &n));
      CHECK (n == 12);
      RETURNS (0, memif_tx_burst (tx, 0, more + 1, 2, &sent));
      CHECK (sent == 2);
      RETURNS (MEMIF_ERR_NOBUF, memif_rx_burst (rx, 0, bufs + 12, 2, &n));
      CHECK (n == 2);
      RETURNS (0, memif_rx_burst (rx, 0, bufs + 14, 2, &n));
      CHECK (n == 1);
      /* Given back in pieces; more than is held is held. */
      RETURNS (0, memif_refill_queue (rx, 0, 5, 0));
      RETURNS (0, memif_refill_queue (rx, 0, 60000, 0));

      /* Nothing to do is no error. */
      RETURNS (0, memif_buffer_alloc (tx, 0, bufs, 0, &n, 64));
      RETURNS (0, memif_buffer_alloc (tx, 0, bufs, 1, &n, 0));
      CHECK (n == 0);
      RETURNS (0, memif_tx_burst (tx, 0, NULL, 0, &n));
      RETURNS (0, memif_rx_burst (rx, 0, NULL, 0, &n));

      /* What libmemif would read or write beyond. */
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_alloc (tx, 0, bufs, 1, NULL, 64));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_alloc (tx, 0, NULL, 1, &n, 64));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, bufs, 1, NULL));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, NULL, 1, &n));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_rx_burst (rx, 0, bufs, 1, NULL));
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_next_free_buffer (tx, 0, NULL));
      RETURNS (MEMIF_ERR_QID, memif_buffer_alloc (tx, 1, bufs, 1, &n, 64));
      RETURNS (MEMIF_ERR_QID, memif_tx_burst (tx, 300, bufs, 1, &n));
      RETURNS (MEMIF_ERR_QID, memif_rx_burst (rx, 65535, bufs, 1, &n));
      RETURNS (MEMIF_ERR_QID, memif_refill_queue (rx, 1, 1, 0));
      RETURNS (MEMIF_ERR_QID, memif_set_next_free_buffer (tx, 1, bufs));
      RETURNS (0, memif_buffer_alloc (tx, 0, bufs, 1, &n, 64));
      bufs[0].len = 257;
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, bufs, 1, &sent));
      bufs[0].len = 0;
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, bufs, 1, &sent));
      bufs[0].len = 64;
      /* 65535 entries that all name one descriptor: only the first is the next one. */
      for (len = 1; len < 64; len++)
        bufs[len] = bufs[0];
      RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (tx, 0, bufs, 64, &sent));
      CHECK (sent == 1);
      n = 0;
      UNTIL (n == 1, RETURNS (0, memif_rx_burst (rx, 0, bufs, 64, &n)));
      RETURNS (0, memif_refill_queue (rx, 0, 1, 0));
    }
  /* A headroom that leaves no room. */
  send_one (master.conn, 60, 0);
  receive_one (slave.conn, bufs, 60, 0);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_refill_queue (slave.conn, 0, 1, 256));
  RETURNS (0, memif_refill_queue (slave.conn, 0, 1, 255));
  end_pair (&master, &slave);
  CHECK (master.disconnected == 1 && slave.disconnected == 1);
}

static void
headroom_and_buffers_that_move (void)
{
  struct end master, slave;
  memif_buffer_t bufs[64], tx[4];
  uint16_t n, sent;
  memset (&slave, 0, sizeof (slave));
  memset (&master, 0, sizeof (master));
  slave.headroom = 64;
  master.sock = new_socket (path);
  slave.sock = new_socket (path);
  memif_conn_args_t args = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &args, on_connect, on_disconnect, NULL, &master));
  args = conn_args (slave.sock, 0);
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
  UNTIL (master.connected && slave.connected, drive (&master, &slave));

  /* The master sees smaller buffers; the slave puts a header into the room in front. */
  RETURNS (0, memif_buffer_alloc (master.conn, 0, tx, 1, &n, 256));
  CHECK (n == 2 && tx[0].len == 256 - 64);
  RETURNS (0, memif_set_next_free_buffer (master.conn, 0, &tx[0]));
  send_one (master.conn, 100, 1);
  n = receive_one (slave.conn, bufs, 100, 1);
  CHECK (n == 1);
  bufs[0].data = (char *) bufs[0].data - 14;
  bufs[0].len += 14;
  memset (bufs[0].data, 0xee, 14);
  RETURNS (0, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, &n));
  CHECK (n == 1);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, &n));
  RETURNS (0, memif_refill_queue (slave.conn, 0, 1, 64));
  /* Outside of its buffer. */
  memif_buffer_t far = bufs[0];
  far.data = (char *) far.data - 51;
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (slave.conn, 0, &far, 1, &sent));
  far.data = NULL;
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_tx_burst (slave.conn, 0, &far, 1, &sent));
  RETURNS (0, memif_tx_burst (slave.conn, 0, bufs, 1, &sent));
  CHECK (sent == 1);
  n = 0;
  UNTIL (n == 1, RETURNS (0, memif_rx_burst (master.conn, 0, bufs, 64, &n)));
  CHECK (bufs[0].len == 114 && ((unsigned char *) bufs[0].data)[13] == 0xee);
  CHECK (((unsigned char *) bufs[0].data)[14] == 1);
  RETURNS (0, memif_refill_queue (master.conn, 0, 1, 0));
  /* The next one comes with headroom, too: its buffer was the sender's. */
  send_one (master.conn, 10, 2);
  n = receive_one (slave.conn, bufs, 10, 2);

  /* Two buffers change places: what was received is sent, and the empty one given back. */
  RETURNS (0, memif_buffer_alloc (slave.conn, 0, tx, 1, &n, 64));
  memcpy (tx[0].data, "overwritten", 11);
  RETURNS (0, memif_buffer_requeue (slave.conn, &bufs[0], &tx[0]));
  RETURNS (0, memif_tx_burst (slave.conn, 0, bufs, 1, &sent));
  RETURNS (0, memif_refill_queue (slave.conn, 0, 1, 64));
  n = receive_one (master.conn, tx, 10, 2);
  RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
  /* Neither is held any more. */
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_requeue (slave.conn, &bufs[0], &tx[0]));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_requeue (slave.conn, NULL, &bufs[0]));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_requeue (slave.conn, &bufs[0], NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_requeue (master.conn, &bufs[0], &tx[0]));
  /* Within one queue, reserved: their order changes, their data does not. */
  RETURNS (0, memif_buffer_alloc (slave.conn, 0, tx, 2, &n, 8));
  memcpy (tx[0].data, "second..", 8);
  memcpy (tx[1].data, "first...", 8);
  RETURNS (0, memif_buffer_requeue (slave.conn, &tx[0], &tx[1]));
  memif_buffer_t turned[2] = { tx[1], tx[0] };
  RETURNS (0, memif_tx_burst (slave.conn, 0, turned, 2, &sent));
  n = 0;
  UNTIL (n == 2, RETURNS (0, memif_rx_burst (master.conn, 0, bufs, 64, &n)));
  CHECK (memcmp (bufs[0].data, "first...", 8) == 0 && memcmp (bufs[1].data, "second..", 8) == 0);

  /* A master owns no buffers. */
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_enq_tx (master.conn, 0, bufs, 1, &n));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, &n));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_enq_tx (slave.conn, 0, NULL, 1, &n));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, NULL));
  RETURNS (MEMIF_ERR_QID, memif_buffer_enq_tx (slave.conn, 1, bufs, 1, &n));
  RETURNS (0, memif_refill_queue (master.conn, 0, -1, 0));

  /* No room to pass on. */
  RETURNS (0, memif_buffer_alloc (slave.conn, 0, tx, 1, &n, 64));
  RETURNS (MEMIF_ERR_NOBUF_RING, memif_buffer_alloc (slave.conn, 0, bufs, 64, &n, 64));
  send_one (master.conn, 10, 3);
  receive_one (slave.conn, bufs, 10, 3);
  RETURNS (MEMIF_ERR_NOBUF_RING, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, &n));
  CHECK (n == 0);
  end_pair (&master, &slave);
}

static void
interrupts_and_polling (void)
{
  struct end master, slave;
  memif_buffer_t bufs[64];
  uint16_t n;
  start_pair (&master, &slave, on_interrupt);
  send_one (slave.conn, 60, 1);
  /* The callback's result is the poll's, again and again until the packet is received. */
  RETURNS (77, memif_poll_event (master.sock, 10000));
  RETURNS (77, memif_poll_event (master.sock, 10000));
  CHECK (master.interrupts == 2);
  n = receive_one (master.conn, bufs, 60, 1);
  RETURNS (0, memif_poll_event (master.sock, 0));
  RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
  /* Packets that wait keep it readable. */
  send_one (slave.conn, 60, 1);
  send_one (slave.conn, 60, 1);
  RETURNS (77, memif_poll_event (master.sock, 10000));
  RETURNS (MEMIF_ERR_NOBUF, memif_rx_burst (master.conn, 0, bufs, 1, &n));
  RETURNS (77, memif_poll_event (master.sock, 10000));
  RETURNS (0, memif_rx_burst (master.conn, 0, bufs, 1, &n));
  RETURNS (0, memif_refill_queue (master.conn, 0, 2, 0));
  /* In polling mode there are none. */
  RETURNS (0, memif_set_rx_mode (master.conn, MEMIF_RX_MODE_POLLING, 0));
  send_one (slave.conn, 60, 1);
  RETURNS (0, memif_poll_event (master.sock, 50));
  receive_one (master.conn, bufs, 60, 1);

  /* Cancelled, once. */
  RETURNS (0, memif_cancel_poll_event (master.sock));
  RETURNS (MEMIF_ERR_POLL_CANCEL, memif_poll_event (master.sock, -1));
  RETURNS (0, memif_poll_event (master.sock, 0));
  end_pair (&master, &slave);
}

static void
ignore (int signal)
{
  (void) signal;
}

static void
a_signal_ends_a_poll (void)
{
  struct sigaction action;
  sigset_t blocked, before;
  memif_socket_handle_t sock = new_socket (path);
  memset (&action, 0, sizeof (action));
  action.sa_handler = ignore;
  CHECK (sigaction (SIGUSR1, &action, NULL) == 0);
  /* Blocked, but for the time of the poll. */
  sigemptyset (&blocked);
  sigaddset (&blocked, SIGUSR1);
  CHECK (pthread_sigmask (SIG_BLOCK, &blocked, &before) == 0);
  CHECK (raise (SIGUSR1) == 0);
  RETURNS (MEMIF_ERR_SYSCALL, memif_poll_event (sock, -1));
  CHECK (pthread_sigmask (SIG_SETMASK, &before, NULL) == 0);
  RETURNS (0, memif_delete_socket (&sock));
}

/* The program's own loop: an epoll that the callback fills. */
static int loop, watched, deleted;

static int
fd_update (memif_fd_event_t fde, void *ctx)
{
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = fde.private_ctx };
  CHECK (ctx == &loop);
  if (fde.type & MEMIF_FD_EVENT_DEL)
    {
      CHECK (epoll_ctl (loop, EPOLL_CTL_DEL, fde.fd, NULL) == 0);
      watched--, deleted++;
    }
  else
    {
      CHECK (fde.type == MEMIF_FD_EVENT_READ);
      CHECK (epoll_ctl (loop, EPOLL_CTL_ADD, fde.fd, &event) == 0);
      watched++;
    }
  return 0;
}

static int allocations;

static void *
counted_alloc (size_t size)
{
  allocations++;
  return malloc (size);
}

static void
counted_free (void *memory)
{
  allocations--;
  free (memory);
}

static void *
no_memory (size_t size)
{
  (void) size;
  return NULL;
}

static int
turn_loop (int timeout)
{
  struct epoll_event event;
  int n = epoll_wait (loop, &event, 1, timeout);
  return n == 1 ? memif_control_fd_handler (event.data.ptr, MEMIF_FD_EVENT_READ) : 0;
}

static void
the_programs_own_loop_and_memory (void)
{
  struct end master, slave;
  memif_socket_args_t args;
  memset (&args, 0, sizeof (args));
  memset (&master, 0, sizeof (master));
  memset (&slave, 0, sizeof (slave));
  strcpy (args.path, "@capi-calls-loop-");
  snprintf (args.path + 17, 20, "%d", getpid ());
  args.on_control_fd_update = fd_update;
  args.alloc = no_memory, args.realloc = realloc, args.free = counted_free;
  RETURNS (MEMIF_ERR_NOMEM, memif_create_socket (&master.sock, &args, &loop));
  args.alloc = counted_alloc;
  loop = epoll_create1 (0);
  /* The timer is watched, the callback's context is the socket's. */
  args.connection_request_timer.it_interval.tv_nsec = 20000000;
  args.connection_request_timer.it_value.tv_nsec = 20000000;
  RETURNS (0, memif_create_socket (&master.sock, &args, &loop));
  CHECK (watched == 1 && allocations > 0);
  slave.sock = master.sock;
  RETURNS (MEMIF_ERR_BAD_FD, memif_poll_event (master.sock, 0));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_cancel_poll_event (master.sock));

  /* A client without a server: the timer connects it when there is one. */
  memif_conn_args_t conn = conn_args (slave.sock, 0);
  RETURNS (0, memif_create (&slave.conn, &conn, on_connect, on_disconnect, on_interrupt, &slave));
  CHECK (watched == 1 && slave.disconnected == 0);
  conn = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &conn, on_connect, on_disconnect, on_interrupt, &master));
  CHECK (watched == 2);
  UNTIL (master.connected && slave.connected, turn_loop (1000));
  /* The connection, and both queues. */
  CHECK (watched == 5);
  send_one (slave.conn, 60, 9);
  UNTIL (master.interrupts, turn_loop (1000));

  /* The link is lost, and comes back by the timer; the program deletes nothing. */
  RETURNS (0, memif_delete (&master.conn));
  CHECK (master.disconnected == 1);
  UNTIL (slave.disconnected, turn_loop (1000));
  conn = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &conn, on_connect, on_disconnect, on_interrupt, &master));
  UNTIL (master.connected == 2 && slave.connected == 2, turn_loop (1000));

  /* Without the timer it stays away, until it is asked. */
  struct itimerspec off = { { 0, 0 }, { 0, 0 } }, bad = { { 0, -1 }, { 0, -1 } };
  RETURNS (0, memif_set_connection_request_timer (slave.sock, off));
  RETURNS (MEMIF_ERR_SYSCALL, memif_set_connection_request_timer (slave.sock, bad));
  slave.delete_when_lost = 0;
  RETURNS (0, memif_delete (&master.conn));
  UNTIL (slave.disconnected == 2, turn_loop (1000));
  conn = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &conn, on_connect, on_disconnect, on_interrupt, &master));
  RETURNS (0, memif_request_connection (slave.conn));
  UNTIL (master.connected == 3 && slave.connected == 3, turn_loop (1000));

  /* A callback deletes its own interface. */
  slave.delete_when_lost = 1;
  RETURNS (0, memif_delete (&master.conn));
  UNTIL (slave.conn == NULL, turn_loop (1000));
  RETURNS (0, memif_delete_socket (&master.sock));
  CHECK (watched == 0 && deleted > 5 && allocations == 0);
  close (loop);
}

static void
a_listener_of_the_programs (void)
{
  struct end master, slave;
  struct sockaddr_un un = { .sun_family = AF_UNIX };
  memset (&master, 0, sizeof (master));
  memset (&slave, 0, sizeof (slave));
  strcpy (un.sun_path, path);
  int fd = socket (AF_UNIX, SOCK_SEQPACKET, 0);
  CHECK (bind (fd, (struct sockaddr *) &un, sizeof (un)) == 0);
  master.sock = new_socket (path);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_listener_fd (master.sock, -1));
  RETURNS (MEMIF_ERR_BAD_FD, memif_set_listener_fd (master.sock, fd));
  CHECK (listen (fd, 4) == 0);
  CHECK (memif_get_listener_fd (master.sock) == -1);
  RETURNS (0, memif_set_listener_fd (master.sock, fd));
  CHECK (memif_get_listener_fd (master.sock) == fd);
  slave.sock = new_socket (path);
  memif_conn_args_t args = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &args, on_connect, on_disconnect, NULL, &master));
  args = conn_args (slave.sock, 0);
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
  UNTIL (master.connected && slave.connected, drive (&master, &slave));
  /* Set again, while it is in use: the link ends, and comes back. */
  RETURNS (0, memif_set_listener_fd (master.sock, fd));
  CHECK (master.disconnected == 1);
  UNTIL (slave.disconnected, drive (&master, &slave));
  RETURNS (0, memif_request_connection (slave.conn));
  UNTIL (master.connected == 2 && slave.connected == 2, drive (&master, &slave));
  RETURNS (0, memif_delete (&slave.conn));
  RETURNS (0, memif_delete (&master.conn));
  RETURNS (0, memif_delete_socket (&slave.sock));
  RETURNS (0, memif_delete_socket (&master.sock));
  /* The program's descriptor and file are left alone. */
  CHECK (fcntl (fd, F_GETFD) >= 0 && access (path, F_OK) == 0);
  close (fd);
  unlink (path);
}

static void
secrets_modes_and_queues (void)
{
  struct end master, slave;
  memif_details_t md;
  char buf[4096];
  memset (&master, 0, sizeof (master));
  memset (&slave, 0, sizeof (slave));
  master.sock = new_socket (path);
  slave.sock = new_socket (path);
  memif_conn_args_t args = conn_args (master.sock, 1);
  args.num_s2m_rings = 3, args.num_m2s_rings = 2, args.mode = MEMIF_INTERFACE_MODE_IP;
  RETURNS (0, memif_create (&master.conn, &args, on_connect, on_disconnect, NULL, &master));
  /* Rejected with a reason: the client learns of it as of a lost link, the server does not. */
  args = conn_args (slave.sock, 0);
  strcpy ((char *) args.secret, "wrong");
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
  UNTIL (slave.disconnected, drive (&master, &slave));
  RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
  CHECK (strstr ((char *) md.error, "secret") != NULL);
  CHECK (master.disconnected == 0 && slave.connected == 0);
  RETURNS (0, memif_delete (&slave.conn));
  /* As many queues as both have; a server does not look at the mode. */
  args = conn_args (slave.sock, 0);
  args.num_s2m_rings = 2, args.num_m2s_rings = 4;
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
  UNTIL (master.connected && slave.connected, drive (&master, &slave));
  RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
  CHECK (md.rx_queues_num == 2 && md.tx_queues_num == 2 && md.mode == 0);
  RETURNS (0, memif_get_details (master.conn, &md, buf, sizeof (buf)));
  CHECK (md.rx_queues_num == 2 && md.tx_queues_num == 2 && md.mode == 1);
  RETURNS (0, memif_refill_queue (slave.conn, 1, -1, 0));
  RETURNS (MEMIF_ERR_QID, memif_refill_queue (slave.conn, 2, -1, 0));

  /* A buffer goes from one queue to another. */
  memif_buffer_t from[2], to[2], tx[2];
  uint16_t n;
  RETURNS (0, memif_buffer_alloc (master.conn, 1, tx, 1, &n, 20));
  memcpy (tx[0].data, "on the second queue.", 20);
  RETURNS (0, memif_tx_burst (master.conn, 1, tx, 1, &n));
  n = 0;
  UNTIL (n == 1, RETURNS (0, memif_rx_burst (slave.conn, 1, from, 2, &n)));
  RETURNS (0, memif_buffer_alloc (master.conn, 0, tx, 1, &n, 20));
  RETURNS (0, memif_tx_burst (master.conn, 0, tx, 1, &n));
  n = 0;
  UNTIL (n == 1, RETURNS (0, memif_rx_burst (slave.conn, 0, to, 2, &n)));
  RETURNS (0, memif_buffer_requeue (slave.conn, &from[0], &to[0]));
  RETURNS (0, memif_buffer_requeue (slave.conn, &from[0], &to[0]));
  RETURNS (0, memif_buffer_alloc (slave.conn, 0, tx, 1, &n, 20));
  RETURNS (0, memif_buffer_alloc (slave.conn, 1, tx + 1, 1, &n, 20));
  RETURNS (0, memif_buffer_requeue (slave.conn, &tx[1], &tx[0]));
  RETURNS (0, memif_buffer_requeue (slave.conn, &tx[0], &from[0]));
  /* `from` is where `tx[0]` was: on the second queue to send on. */
  RETURNS (0, memif_tx_burst (slave.conn, 1, from, 1, &n));
  n = 0;
  UNTIL (n == 1, RETURNS (0, memif_rx_burst (master.conn, 1, to, 2, &n)));
  CHECK (memcmp (to[0].data, "on the second queue.", 20) == 0);
  end_pair (&master, &slave);
}

/* Memory of the program's own. */
static void *external_address[4];
static int external_fd[4], externals, external_gone, next_offset;

static int
add_region (void **addr, uint32_t size, int *fd, void *ctx)
{
  CHECK (ctx != NULL && externals < 4);
  *fd = memfd_create ("external", MFD_CLOEXEC);
  CHECK (ftruncate (*fd, size) == 0);
  *addr = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  CHECK (*addr != MAP_FAILED);
  external_address[externals] = *addr;
  external_fd[externals++] = *fd;
  return 0;
}

static int
add_nothing (void **addr, uint32_t size, int *fd, void *ctx)
{
  (void) addr, (void) size, (void) fd, (void) ctx;
  return -1;
}

static void *
get_region (uint32_t size, int fd, void *ctx)
{
  CHECK (ctx != NULL && externals < 4);
  void *addr = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK (addr != MAP_FAILED);
  external_address[externals] = addr;
  external_fd[externals++] = -1;
  return addr;
}

static int
del_region (void *addr, uint32_t size, int fd, void *ctx)
{
  CHECK (ctx != NULL);
  CHECK (munmap (addr, size) == 0);
  int i, ours = 0;
  for (i = 0; i < externals; i++)
    ours |= external_fd[i] == fd;
  if (ours)
    close (fd);
  external_gone++;
  return 0;
}

static uint32_t
buffer_offset (void *ctx)
{
  CHECK (ctx != NULL);
  /* Buffers of its choice: the last ones first, with a headroom of 32. */
  next_offset = (next_offset + 31) % 32;
  return next_offset * 256 + 32;
}

static void
memory_of_the_programs (void)
{
  struct end master, slave;
  memif_buffer_t bufs[64];
  memif_details_t md;
  memif_region_details_t region;
  char buf[2048];
  uint16_t n;
  int round;
  for (round = 0; round < 2; round++)
    {
      externals = external_gone = next_offset = 0;
      memset (&master, 0, sizeof (master));
      memset (&slave, 0, sizeof (slave));
      master.sock = new_socket (path);
      slave.sock = new_socket (path);
      memif_register_external_region (master.sock, NULL, get_region, del_region, NULL);
      memif_register_external_region (slave.sock, add_region, NULL, del_region,
                                      round == 1 ? buffer_offset : NULL);
      memif_conn_args_t args = conn_args (master.sock, 1);
      RETURNS (0, memif_create (&master.conn, &args, on_connect, on_disconnect, NULL, &master));
      args = conn_args (slave.sock, 0);
      RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
      UNTIL (master.connected && slave.connected, drive (&master, &slave));
      CHECK (externals == 2);
      RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
      memcpy (&region, &md.regions[1], sizeof (region));
      CHECK (region.is_external && region.addr == external_address[0]);
      CHECK (region.size == 2 * 16 * 256);
      /* Addresses are the program's on both sides. */
      RETURNS (0, memif_buffer_alloc (slave.conn, 0, bufs, 1, &n, 40));
      long at = (char *) bufs[0].data - (char *) external_address[0];
      CHECK (at >= 0 && at % 256 == (round == 1 ? 32 : 0) && at < (long) region.size);
      RETURNS (0, memif_set_next_free_buffer (slave.conn, 0, bufs));
      send_one (slave.conn, 40, 7);
      n = receive_one (master.conn, bufs, 40, 7);
      at = (char *) bufs[0].data - (char *) external_address[1];
      CHECK (at >= 0 && at < (long) region.size);
      RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
      send_one (master.conn, 400, 8);
      n = receive_one (slave.conn, bufs, 400, 8);
      at = (char *) bufs[0].data - (char *) external_address[0];
      CHECK (at >= 0 && at < (long) region.size);
      RETURNS (0, memif_refill_queue (slave.conn, 0, n, 0));
      end_pair (&master, &slave);
      CHECK (external_gone == 2);
    }
  /* A program without memory gets no link. */
  memset (&master, 0, sizeof (master));
  memset (&slave, 0, sizeof (slave));
  master.sock = new_socket (path);
  slave.sock = new_socket (path);
  memif_register_external_region (slave.sock, add_nothing, NULL, NULL, NULL);
  memif_conn_args_t args = conn_args (master.sock, 1);
  RETURNS (0, memif_create (&master.conn, &args, on_connect, on_disconnect, NULL, &master));
  args = conn_args (slave.sock, 0);
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, NULL, &slave));
  UNTIL (slave.disconnected, drive (&master, &slave));
  CHECK (slave.connected == 0 && master.connected == 0);
  end_pair (&master, &slave);
}

/* A thread that uses a queue all the time, while the main thread takes the link away. */
static int stop;

static void *
busy (void *ctx)
{
  struct end *slave = ctx;
  memif_conn_handle_t conn = slave->conn;
  memif_buffer_t bufs[16];
  uint16_t n, sent;
  while (!__atomic_load_n (&stop, __ATOMIC_ACQUIRE))
    {
      int err = memif_buffer_alloc (conn, 0, bufs, 16, &n, 64);
      CHECK (err == 0 || err == MEMIF_ERR_NOBUF_RING || err == MEMIF_ERR_DISCONNECTED
             || err == MEMIF_ERR_NOCONN);
      if (err != MEMIF_ERR_DISCONNECTED && err != MEMIF_ERR_NOCONN)
        memif_tx_burst (conn, 0, bufs, n, &sent);
    }
  RETURNS (MEMIF_ERR_NOCONN, memif_buffer_alloc (conn, 0, bufs, 16, &n, 64));
  return NULL;
}

static void
a_link_is_taken_from_a_busy_thread (void)
{
  struct end master, slave;
  pthread_t thread;
  memif_buffer_t bufs[16];
  uint16_t n;
  int rounds = 0;
  start_pair (&master, &slave, NULL);
  CHECK (pthread_create (&thread, NULL, busy, &slave) == 0);
  while (rounds < 100)
    {
      memif_rx_burst (master.conn, 0, bufs, 16, &n);
      RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
      rounds += n != 0;
    }
  end_pair (&master, &slave);
  __atomic_store_n (&stop, 1, __ATOMIC_RELEASE);
  CHECK (pthread_join (thread, NULL) == 0);
}

int
main (int argc, char **argv)
{
  CHECK (argc == 2);
  folder = argv[1];
  snprintf (path, sizeof (path), "%s/m.sock", folder);
  texts_and_versions ();
  nothing_is_dereferenced ();
  what_create_refuses ();
  a_link_is_described ();
  packets_in_both_directions ();
  headroom_and_buffers_that_move ();
  interrupts_and_polling ();
  a_signal_ends_a_poll ();
  the_programs_own_loop_and_memory ();
  a_listener_of_the_programs ();
  secrets_modes_and_queues ();
  memory_of_the_programs ();
  a_link_is_taken_from_a_busy_thread ();
  puts ("all is as it should be");
  return 0;
}
