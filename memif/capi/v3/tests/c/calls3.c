/*
 * Every function of the 3.1 API, where it differs from 4.0: with both ends of a link in one process,
 * the master on the global main and the slave on one of its own.
 */
#include <libmemif.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../../../tests/c/check.h"

struct end
{
  memif_conn_handle_t conn;
  int connected, disconnected, interrupts;
};

static memif_per_thread_main_handle_t own;
static char path[108];

static int
on_connect (memif_conn_handle_t conn, void *ctx)
{
  struct end *end = ctx;
  end->connected++;
  RETURNS (0, memif_refill_queue (conn, 0, -1, 0));
  return 0;
}

static int
on_disconnect (memif_conn_handle_t conn, void *ctx)
{
  struct end *end = ctx;
  CHECK (conn == end->conn);
  end->disconnected++;
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

/* The program's own loop, for the slave. */
static int loop, watched;

static int
fd_update (int fd, uint8_t events, void *ctx)
{
  struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
  CHECK (ctx == &loop);
  if (events & MEMIF_FD_EVENT_DEL)
    watched--;
  else
    watched++;
  return epoll_ctl (loop, events & MEMIF_FD_EVENT_DEL ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, fd, &event);
}

static int
fd_update_fails (int fd, uint8_t events, void *ctx)
{
  (void) fd, (void) events, (void) ctx;
  return -1;
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

static void
turn (int timeout)
{
  struct epoll_event event;
  RETURNS (0, memif_poll_event (0));
  if (epoll_wait (loop, &event, 1, timeout) == 1)
    RETURNS (0, memif_per_thread_control_fd_handler (own, event.data.fd, MEMIF_FD_EVENT_READ));
}

static memif_conn_args_t
conn_args (memif_socket_handle_t sock, int is_master)
{
  memif_conn_args_t args;
  memset (&args, 0, sizeof (args));
  args.socket = sock;
  args.is_master = is_master;
  args.interface_id = 9;
  strcpy ((char *) args.interface_name, is_master ? "master" : "slave");
  args.log2_ring_size = 4;
  return args;
}

static void
without_a_main (void)
{
  struct itimerspec timer = { { 0, 0 }, { 0, 0 } };
  memif_conn_args_t args = conn_args (NULL, 1);
  memif_conn_handle_t conn = NULL;
  memif_socket_handle_t sock = NULL;
  memif_per_thread_main_handle_t none = NULL;
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_poll_event (0));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_cancel_poll_event ());
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_control_fd_handler (0, MEMIF_FD_EVENT_READ));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_set_connection_request_timer (timer));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create_socket (&sock, path, NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&conn, &args, NULL, NULL, NULL, NULL));
  memif_register_external_region (NULL, NULL, NULL, NULL);
  RETURNS (0, memif_cleanup ());

  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_poll_event (none, 0));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_cancel_poll_event (none));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_control_fd_handler (none, 0, 1));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_set_connection_request_timer (none, timer));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_create_socket (none, &sock, path, NULL));
  memif_per_thread_register_external_region (none, NULL, NULL, NULL, NULL);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_cleanup (&none));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_cleanup (NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG,
           memif_per_thread_init (NULL, NULL, NULL, NULL, NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_CB_FDUPDATE,
           memif_per_thread_init (&none, NULL, fd_update_fails, NULL, NULL, NULL, NULL));
  CHECK (memif_get_version () == 0x0200 && strlen (memif_strerror (MEMIF_ERR_QID)) > 4);
  CHECK (memif_get_socket_filename (NULL) == NULL);
}

int
main (int argc, char **argv)
{
  struct end master, slave;
  memif_socket_handle_t master_sock = NULL, slave_sock = NULL;
  memif_details_t md;
  char buf[2048];
  memif_buffer_t bufs[16];
  uint16_t n, sent;
  int fd;
  CHECK (argc == 2);
  snprintf (path, sizeof (path), "%s/m3.sock", argv[1]);
  memset (&master, 0, sizeof (master));
  memset (&slave, 0, sizeof (slave));
  without_a_main ();

  char name[] = "calls3", longer[] = "a name of far more than 31 characters, cut";
  RETURNS (0, memif_init (NULL, name, counted_alloc, realloc, counted_free));
  RETURNS (MEMIF_ERR_ALREADY, memif_init (NULL, name, NULL, NULL, NULL));
  CHECK (allocations > 0);
  loop = epoll_create1 (0);
  RETURNS (0, memif_per_thread_init (&own, &loop, fd_update, longer, NULL, NULL, NULL));
  /* The timer. */
  CHECK (watched == 1);
  struct itimerspec fast = { { 0, 20000000 }, { 0, 20000000 } };
  RETURNS (0, memif_per_thread_set_connection_request_timer (own, fast));
  RETURNS (MEMIF_ERR_BAD_FD, memif_per_thread_poll_event (own, 0));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_per_thread_cancel_poll_event (own));
  /* A descriptor that is not the library's is ignored. */
  RETURNS (0, memif_per_thread_control_fd_handler (own, 12345, MEMIF_FD_EVENT_READ));

  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create_socket (&master_sock, NULL, NULL));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create_socket (NULL, path, NULL));
  RETURNS (0, memif_create_socket (&master_sock, path, NULL));
  RETURNS (0, memif_per_thread_create_socket (own, &slave_sock, path, NULL));
  CHECK (strcmp (memif_get_socket_filename (slave_sock), path) == 0);

  /* A client that the timer connects, when there is a server. */
  memif_conn_args_t args = conn_args (slave_sock, 0);
  RETURNS (0, memif_create (&slave.conn, &args, on_connect, on_disconnect, on_interrupt, &slave));
  RETURNS (MEMIF_ERR_CONN, memif_create (&slave.conn, &args, NULL, NULL, NULL, NULL));
  RETURNS (MEMIF_ERR_CONNREFUSED, memif_request_connection (slave.conn));
  memif_conn_handle_t other = NULL;
  args = conn_args (slave_sock, 1);
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_create (&other, &args, NULL, NULL, NULL, NULL));
  args = conn_args (master_sock, 1);
  RETURNS (0,
           memif_create (&master.conn, &args, on_connect, on_disconnect, on_interrupt, &master));
  RETURNS (MEMIF_ERR_INVAL_ARG, memif_request_connection (master.conn));
  UNTIL (master.connected && slave.connected, turn (1000));
  RETURNS (MEMIF_ERR_ALRCONN, memif_request_connection (slave.conn));
  CHECK (watched == 3);

  RETURNS (0, memif_get_details (slave.conn, &md, buf, sizeof (buf)));
  CHECK (strcmp ((char *) md.socket_filename, path) == 0 && md.role == 1 && md.secret == NULL);
  CHECK (strncmp ((char *) md.inst_name, longer, 31) == 0 && strlen ((char *) md.inst_name) == 31);
  CHECK (strcmp ((char *) md.remote_inst_name, name) == 0 && md.link_up_down == 1);
  memif_queue_details_t queue;
  memcpy (&queue, &md.rx_queues[0], sizeof (queue));
  CHECK (queue.qid == 0 && queue.ring_size == 16 && queue.buffer_size == 2048);
  RETURNS (0, memif_get_queue_efd (slave.conn, 0, &fd));
  RETURNS (0, memif_set_rx_mode (slave.conn, MEMIF_RX_MODE_INTERRUPT, 0));

  /* A packet there, and the same buffer back without a copy. */
  RETURNS (0, memif_buffer_alloc (master.conn, 0, bufs, 1, &n, 100));
  memset (bufs[0].data, 0x5a, 100);
  RETURNS (0, memif_tx_burst (master.conn, 0, bufs, n, &sent));
  /* The callback's result has no meaning. */
  UNTIL (slave.interrupts, turn (1000));
  RETURNS (0, memif_rx_burst (slave.conn, 0, bufs, 16, &n));
  CHECK (n == 1 && bufs[0].flags == MEMIF_BUFFER_FLAG_RX && bufs[0].len == 100);
  RETURNS (0, memif_buffer_enq_tx (slave.conn, 0, bufs, 1, &n));
  CHECK (bufs[0].flags == 0);
  RETURNS (0, memif_refill_queue (slave.conn, 0, 1, 0));
  RETURNS (0, memif_tx_burst (slave.conn, 0, bufs, 1, &sent));
  UNTIL (master.interrupts, turn (1000));
  RETURNS (0, memif_rx_burst (master.conn, 0, bufs, 16, &n));
  CHECK (n == 1 && bufs[0].len == 100 && ((unsigned char *) bufs[0].data)[99] == 0x5a);
  RETURNS (0, memif_refill_queue (master.conn, 0, n, 0));
  RETURNS (MEMIF_ERR_QID, memif_refill_queue (master.conn, 1, n, 0));

  /* Cancelled, once. */
  RETURNS (0, memif_cancel_poll_event ());
  RETURNS (MEMIF_ERR_POLL_CANCEL, memif_poll_event (-1));
  RETURNS (0, memif_poll_event (0));

  /* The last master gone, the socket listens no more; the client waits for the next one. */
  RETURNS (0, memif_delete (&master.conn));
  CHECK (master.disconnected == 1 && access (path, F_OK) != 0);
  UNTIL (slave.disconnected, turn (1000));
  args = conn_args (master_sock, 1);
  RETURNS (0,
           memif_create (&master.conn, &args, on_connect, on_disconnect, on_interrupt, &master));
  UNTIL (master.connected == 2 && slave.connected == 2, turn (1000));

  RETURNS (MEMIF_ERR_INVAL_ARG, memif_delete_socket (&slave_sock));
  RETURNS (0, memif_delete (&slave.conn));
  CHECK (slave.disconnected == 2);
  UNTIL (master.disconnected == 2, turn (1000));
  /* Without a link nothing is reported. */
  RETURNS (0, memif_delete (&master.conn));
  CHECK (master.disconnected == 2);
  RETURNS (MEMIF_ERR_NOCONN, memif_delete (&master.conn));
  RETURNS (0, memif_delete_socket (&slave_sock));
  CHECK (slave_sock == NULL);

  /* What is left ends with its main, without a callback. */
  args = conn_args (master_sock, 1);
  RETURNS (0,
           memif_create (&master.conn, &args, on_connect, on_disconnect, on_interrupt, &master));
  RETURNS (0, memif_per_thread_cleanup (&own));
  CHECK (own == NULL && watched == 0);
  RETURNS (0, memif_cleanup ());
  CHECK (master.disconnected == 2 && allocations == 0 && access (path, F_OK) != 0);
  RETURNS (MEMIF_ERR_NOCONN, memif_delete (&master.conn));
  close (loop);
  puts ("all is as it should be");
  return 0;
}
