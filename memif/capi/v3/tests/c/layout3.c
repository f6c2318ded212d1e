/* Sizes, offsets and values of the 3.1 ABI on x86-64, where they differ from 4.0's or are used most. */
#include <libmemif.h>
#include <stddef.h>
#include <string.h>

#include "../../../tests/c/check.h"

#define AT(type, field, offset) _Static_assert (offsetof (type, field) == offset, #type "." #field)
#define SIZE(type, bytes) _Static_assert (sizeof (type) == bytes, #type)
#define IS(name, value) _Static_assert (name == value, #name)

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
AT (memif_buffer_t, ring, 8);
AT (memif_buffer_t, len, 16);
AT (memif_buffer_t, flags, 20);
AT (memif_buffer_t, data, 24);
SIZE (memif_queue_details_t, 16);
AT (memif_queue_details_t, region, 0);
AT (memif_queue_details_t, qid, 1);
AT (memif_queue_details_t, ring_size, 4);
AT (memif_queue_details_t, flags, 8);
AT (memif_queue_details_t, head, 10);
AT (memif_queue_details_t, tail, 12);
AT (memif_queue_details_t, buffer_size, 14);
SIZE (memif_region_details_t, 32);
AT (memif_region_details_t, fd, 20);
AT (memif_region_details_t, is_external, 24);
SIZE (memif_details_t, 120);
AT (memif_details_t, id, 32);
AT (memif_details_t, secret, 40);
AT (memif_details_t, role, 48);
AT (memif_details_t, mode, 49);
AT (memif_details_t, socket_filename, 56);
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
IS (MEMIF_ERR_NOMEM, 10);
IS (MEMIF_ERR_INVAL_ARG, 11);
IS (MEMIF_ERR_NOBUF_RING, 18);
IS (MEMIF_ERR_QID, 23);
IS (MEMIF_ERR_PROTO, 24);
IS (MEMIF_ERR_DISCONNECTED, 35);
IS (MEMIF_ERR_POLL_CANCEL, 37);
IS (MEMIF_ERR_PRIVHDR, 39);
IS (MEMIF_FD_EVENT_READ, 1);
IS (MEMIF_FD_EVENT_WRITE, 2);
IS (MEMIF_FD_EVENT_ERROR, 4);
IS (MEMIF_FD_EVENT_DEL, 8);
IS (MEMIF_FD_EVENT_MOD, 16);
IS (MEMIF_BUFFER_FLAG_NEXT, 1);
IS (MEMIF_BUFFER_FLAG_RX, 2);
IS (MEMIF_RX_MODE_POLLING, 1);
IS (MEMIF_INTERFACE_MODE_PUNT_INJECT, 2);
IS (MEMIF_HAVE_CANCEL_POLL_EVENT, 1);

int
main (void)
{
  /* The bit field has no offset: its byte is found by setting it. */
  memif_conn_args_t args;
  memset (&args, 0, sizeof (args));
  args.mode = MEMIF_INTERFACE_MODE_PUNT_INJECT;
  CHECK (((unsigned char *) &args)[76] == 2);
  CHECK (strcmp (LIBMEMIF_VERSION, "3.1") == 0);
  return 0;
}
