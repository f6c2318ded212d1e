/* Sizes, offsets and values of the 4.0 ABI on x86-64, as compiled programs have them. */
#include <libmemif.h>
#include <stddef.h>
#include <string.h>

#include "check.h"

#define AT(type, field, offset) _Static_assert (offsetof (type, field) == offset, #type "." #field)
#define SIZE(type, bytes) _Static_assert (sizeof (type) == bytes, #type)
#define IS(name, value) _Static_assert (name == value, #name)

SIZE (memif_err_t, 4);
SIZE (memif_fd_event_type_t, 4);
SIZE (memif_rx_mode_t, 4);
SIZE (memif_interface_mode_t, 4);

SIZE (memif_fd_event_t, 16);
AT (memif_fd_event_t, fd, 0);
AT (memif_fd_event_t, type, 4);
AT (memif_fd_event_t, private_ctx, 8);

SIZE (memif_socket_args_t, 208);
AT (memif_socket_args_t, path, 0);
AT (memif_socket_args_t, app_name, 108);
AT (memif_socket_args_t, connection_request_timer, 144);
AT (memif_socket_args_t, on_control_fd_update, 176);
AT (memif_socket_args_t, alloc, 184);
AT (memif_socket_args_t, realloc, 192);
AT (memif_socket_args_t, free, 200);

SIZE (memif_conn_args_t, 80);
AT (memif_conn_args_t, socket, 0);
AT (memif_conn_args_t, secret, 8);
AT (memif_conn_args_t, num_s2m_rings, 32);
AT (memif_conn_args_t, num_m2s_rings, 33);
AT (memif_conn_args_t, buffer_size, 34);
AT (memif_conn_args_t, log2_ring_size, 36);
AT (memif_conn_args_t, is_master, 37);
AT (memif_conn_args_t, interface_id, 40);
AT (memif_conn_args_t, interface_name, 44);

SIZE (memif_buffer_t, 32);
AT (memif_buffer_t, desc_index, 0);
AT (memif_buffer_t, queue, 8);
AT (memif_buffer_t, len, 16);
AT (memif_buffer_t, flags, 20);
AT (memif_buffer_t, data, 24);

SIZE (memif_queue_details_t, 16);
AT (memif_queue_details_t, region, 0);
AT (memif_queue_details_t, qid, 2);
AT (memif_queue_details_t, ring_size, 4);
AT (memif_queue_details_t, flags, 8);
AT (memif_queue_details_t, head, 10);
AT (memif_queue_details_t, tail, 12);
AT (memif_queue_details_t, buffer_size, 14);

SIZE (memif_region_details_t, 32);
AT (memif_region_details_t, index, 0);
AT (memif_region_details_t, addr, 8);
AT (memif_region_details_t, size, 16);
AT (memif_region_details_t, fd, 20);
AT (memif_region_details_t, is_external, 24);

SIZE (memif_details_t, 120);
AT (memif_details_t, if_name, 0);
AT (memif_details_t, inst_name, 8);
AT (memif_details_t, remote_if_name, 16);
AT (memif_details_t, remote_inst_name, 24);
AT (memif_details_t, id, 32);
AT (memif_details_t, secret, 40);
AT (memif_details_t, role, 48);
AT (memif_details_t, mode, 49);
AT (memif_details_t, socket_path, 56);
AT (memif_details_t, regions_num, 64);
AT (memif_details_t, regions, 72);
AT (memif_details_t, rx_queues_num, 80);
AT (memif_details_t, tx_queues_num, 81);
AT (memif_details_t, rx_queues, 88);
AT (memif_details_t, tx_queues, 96);
AT (memif_details_t, error, 104);
AT (memif_details_t, link_up_down, 112);

IS (MEMIF_ERR_SUCCESS, 0);
IS (MEMIF_ERR_SYSCALL, 1);
IS (MEMIF_ERR_CONNREFUSED, 2);
IS (MEMIF_ERR_ACCES, 3);
IS (MEMIF_ERR_NO_FILE, 4);
IS (MEMIF_ERR_FILE_LIMIT, 5);
IS (MEMIF_ERR_PROC_FILE_LIMIT, 6);
IS (MEMIF_ERR_ALREADY, 7);
IS (MEMIF_ERR_AGAIN, 8);
IS (MEMIF_ERR_BAD_FD, 9);
IS (MEMIF_ERR_NOMEM, 10);
IS (MEMIF_ERR_INVAL_ARG, 11);
IS (MEMIF_ERR_NOCONN, 12);
IS (MEMIF_ERR_CONN, 13);
IS (MEMIF_ERR_CB_FDUPDATE, 14);
IS (MEMIF_ERR_FILE_NOT_SOCK, 15);
IS (MEMIF_ERR_NO_SHMFD, 16);
IS (MEMIF_ERR_COOKIE, 17);
IS (MEMIF_ERR_NOBUF_RING, 18);
IS (MEMIF_ERR_NOBUF, 19);
IS (MEMIF_ERR_NOBUF_DET, 20);
IS (MEMIF_ERR_INT_WRITE, 21);
IS (MEMIF_ERR_MFMSG, 22);
IS (MEMIF_ERR_QID, 23);
IS (MEMIF_ERR_PROTO, 24);
IS (MEMIF_ERR_ID, 25);
IS (MEMIF_ERR_ACCSLAVE, 26);
IS (MEMIF_ERR_ALRCONN, 27);
IS (MEMIF_ERR_MODE, 28);
IS (MEMIF_ERR_SECRET, 29);
IS (MEMIF_ERR_NOSECRET, 30);
IS (MEMIF_ERR_MAXREG, 31);
IS (MEMIF_ERR_MAXRING, 32);
IS (MEMIF_ERR_NO_INTFD, 33);
IS (MEMIF_ERR_DISCONNECT, 34);
IS (MEMIF_ERR_DISCONNECTED, 35);
IS (MEMIF_ERR_UNKNOWN_MSG, 36);
IS (MEMIF_ERR_POLL_CANCEL, 37);
IS (MEMIF_ERR_MAX_RING, 38);
IS (MEMIF_ERR_PRIVHDR, 39);

IS (MEMIF_FD_EVENT_READ, 1);
IS (MEMIF_FD_EVENT_WRITE, 2);
IS (MEMIF_FD_EVENT_ERROR, 4);
IS (MEMIF_FD_EVENT_DEL, 8);
IS (MEMIF_FD_EVENT_MOD, 16);
IS (MEMIF_INTERFACE_MODE_ETHERNET, 0);
IS (MEMIF_INTERFACE_MODE_IP, 1);
IS (MEMIF_INTERFACE_MODE_PUNT_INJECT, 2);
IS (MEMIF_RX_MODE_INTERRUPT, 0);
IS (MEMIF_RX_MODE_POLLING, 1);
IS (MEMIF_BUFFER_FLAG_NEXT, 1);
IS (MEMIF_QUEUE_FLAG_POLLING, 1);
IS (MEMIF_HAVE_CANCEL_POLL_EVENT, 1);

int
main (void)
{
  /* The bit field has no offset: its byte is found by setting it. */
  memif_conn_args_t args;
  memset (&args, 0, sizeof (args));
  args.mode = MEMIF_INTERFACE_MODE_PUNT_INJECT;
  CHECK (((unsigned char *) &args)[76] == 2);
  CHECK (strcmp (LIBMEMIF_VERSION, "4.0") == 0);
  return 0;
}
