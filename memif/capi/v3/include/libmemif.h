/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file
 * libmemif 3.1: packets between processes through shared memory. It is for programs written for it;
 * new ones use 4.0.
 *
 * A program calls memif_init and makes interfaces: servers ("masters", which listen) and clients
 * ("slaves", which connect and own the memory). When a peer has connected, `on_connect` is called,
 * and packets can be received and sent:
 *
 *     on_connect:  memif_refill_queue (conn, 0, -1, 0);      a client offers all its buffers
 *     to receive:  memif_rx_burst (conn, 0, bufs, 64, &n);
 *                  ... use bufs[i].data, bufs[i].len ...
 *                  memif_refill_queue (conn, 0, n, 0);       gives them back, in order
 *     to send:     memif_buffer_alloc (conn, 0, bufs, 64, &n, 1500);
 *                  ... write bufs[i].data, set bufs[i].len ...
 *                  memif_tx_burst (conn, 0, bufs, n, &sent);
 *     to wait:     memif_poll_event (-1);                    calls the callbacks
 *
 * All this belongs to the global main. The functions memif_per_thread_* do the same with a main of
 * the program's own, whose interfaces belong to the sockets that were made with it.
 *
 * Functions return MEMIF_ERR_SUCCESS (0) or another memif_err_t. NULL, a handle whose object was
 * deleted, a queue that the interface does not have, and a buffer that is not held are errors.
 *
 * Any thread may call any function. Threads that use one queue take turns; for speed, give each
 * queue to one thread. Callbacks run on the thread that called memif_poll_event,
 * memif_control_fd_handler or memif_delete, and may call any function; those for external regions
 * may call none.
 *
 * The bytes of a packet are in memory that the peer can change at any moment: copy what decisions
 * depend on before you look at it. A peer that cuts its memory short loses its link: the library
 * handles SIGBUS in its own mappings, and passes all others to the handler that was there before.
 */
#ifndef _LIBMEMIF_H_
#define _LIBMEMIF_H_

/** Version of this API. */
#define LIBMEMIF_VERSION "3.1"
/** A name for programs that have none. */
#define MEMIF_DEFAULT_APP_NAME "libmemif-app"

#include <inttypes.h>
#include <sys/timerfd.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a function returns. */
typedef enum
{
  MEMIF_ERR_SUCCESS = 0,
  /* Errors of the system. */
  MEMIF_ERR_SYSCALL,         /**< another error of a system call; a signal, in memif_poll_event */
  MEMIF_ERR_CONNREFUSED,     /**< no server accepts the connection */
  MEMIF_ERR_ACCES,           /**< permission denied */
  MEMIF_ERR_NO_FILE,         /**< the file or its directory does not exist */
  MEMIF_ERR_FILE_LIMIT,      /**< too many open files in the system */
  MEMIF_ERR_PROC_FILE_LIMIT, /**< too many open files in the process */
  MEMIF_ERR_ALREADY,         /**< a connection was requested already */
  MEMIF_ERR_AGAIN,           /**< the operation would block */
  MEMIF_ERR_BAD_FD,          /**< not a descriptor for this call */
  MEMIF_ERR_NOMEM,           /**< out of memory */
  /* Errors of a call. */
  MEMIF_ERR_INVAL_ARG,       /**< an argument is invalid */
  MEMIF_ERR_NOCONN,          /**< the handle is NULL, or its interface was deleted */
  MEMIF_ERR_CONN,            /**< the handle is not NULL, as memif_create wants it */
  MEMIF_ERR_CB_FDUPDATE,     /**< on_control_fd_update has failed */
  MEMIF_ERR_FILE_NOT_SOCK,   /**< the path exists and is no socket */
  MEMIF_ERR_NO_SHMFD,        /**< a region came without its descriptor */
  MEMIF_ERR_COOKIE,          /**< a ring without its cookie */
  MEMIF_ERR_NOBUF_RING,      /**< the ring is full: fewer buffers than were asked for */
  MEMIF_ERR_NOBUF,           /**< more was received than there was room for: call again */
  MEMIF_ERR_NOBUF_DET,       /**< the buffer for the details is too small */
  MEMIF_ERR_INT_WRITE,       /**< an interrupt could not be sent */
  MEMIF_ERR_MFMSG,           /**< a malformed message came */
  MEMIF_ERR_QID,             /**< the interface has no such queue */
  /* Errors of the protocol. */
  MEMIF_ERR_PROTO,           /**< the peer speaks another version */
  MEMIF_ERR_ID,              /**< the interface id is unknown, or in use on the socket */
  MEMIF_ERR_ACCSLAVE,        /**< a client accepts no connections */
  MEMIF_ERR_ALRCONN,         /**< connected or connecting already */
  MEMIF_ERR_MODE,            /**< the modes differ */
  MEMIF_ERR_SECRET,          /**< the secrets differ */
  MEMIF_ERR_NOSECRET,        /**< a secret is required */
  MEMIF_ERR_MAXREG,          /**< too many regions */
  MEMIF_ERR_MAXRING,         /**< too many rings */
  MEMIF_ERR_NO_INTFD,        /**< a ring came without its descriptor */
  MEMIF_ERR_DISCONNECT,      /**< the peer has disconnected */
  MEMIF_ERR_DISCONNECTED,    /**< the interface is not connected */
  MEMIF_ERR_UNKNOWN_MSG,     /**< a message of unknown type came */
  MEMIF_ERR_POLL_CANCEL,     /**< memif_cancel_poll_event was called */
  MEMIF_ERR_MAX_RING,        /**< the ring size is above 2^14 */
  MEMIF_ERR_PRIVHDR,         /**< private headers are not supported */
} memif_err_t;

/** What a descriptor is to be watched for, or what has happened on it. */
#define MEMIF_FD_EVENT_READ (1 << 0)  /**< watch it for reading; it is readable */
#define MEMIF_FD_EVENT_WRITE (1 << 1) /**< watch it for writing; it is writable */
#define MEMIF_FD_EVENT_ERROR (1 << 2) /**< an error has happened on it */
#define MEMIF_FD_EVENT_DEL (1 << 3)   /**< stop watching it: it is about to be closed */
#define MEMIF_FD_EVENT_MOD (1 << 4)   /**< watch it for other events than before */

/** A main: sockets with one event loop. */
typedef void *memif_per_thread_main_handle_t;
/** An interface. */
typedef void *memif_conn_handle_t;
/** A socket. */
typedef void *memif_socket_handle_t;

/** Like malloc. */
typedef void *(memif_alloc_t) (size_t size);
/** Like realloc. */
typedef void *(memif_realloc_t) (void *ptr, size_t size);
/** Like free. */
typedef void (memif_free_t) (void *ptr);

/**
 * Tells the program about a descriptor: watch it (MEMIF_FD_EVENT_READ), level-triggered, and call
 * memif_control_fd_handler when it is ready; or stop (MEMIF_FD_EVENT_DEL). `private_ctx` is what
 * memif_per_thread_init got, or NULL. Returns 0, or a negative number when it fails.
 */
typedef int (memif_control_fd_update_t) (int fd, uint8_t events, void *private_ctx);

/**
 * Tells the program that an interface was connected or disconnected. `private_ctx` is what
 * memif_create got. The return value is ignored.
 */
typedef int (memif_connection_update_t) (memif_conn_handle_t conn, void *private_ctx);

/**
 * Tells the program that the peer has announced packets on a queue. It is called again until they
 * are received. Its return value is ignored.
 */
typedef int (memif_interrupt_t) (memif_conn_handle_t conn, void *private_ctx, uint16_t qid);

/** Returns where in the program's own region the next buffer begins. Optional. */
typedef uint32_t (memif_get_external_buffer_offset_t) (void *private_ctx);

/**
 * Makes the region for a client's buffers: memory of at least `size` bytes in a memfd or a file on
 * tmpfs or hugetlbfs. Sets *addr to where the program has it mapped, and *fd to its descriptor, and
 * returns 0. Both stay valid until memif_del_external_region_t.
 */
typedef int (memif_add_external_region_t) (void **addr, uint32_t size, int *fd,
                                           void *private_ctx);

/** Maps a region that a client has sent, and returns where; NULL leaves it to the library. */
typedef void *(memif_get_external_region_addr_t) (uint32_t size, int fd, void *private_ctx);

/** Ends the use of a region of the program's. */
typedef int (memif_del_external_region_t) (void *addr, uint32_t size, int fd, void *private_ctx);

/**
 * Uses memory of the program's for packets. Call it before memif_create. Clients call `ar` for each
 * connection; servers call `gr` for each of a client's regions but the first. The buffers of a
 * client's region lie back to back from its beginning, unless `go` says where each begins. These
 * functions get the interface's private_ctx, and must not call the library.
 */
void memif_register_external_region (memif_add_external_region_t *ar,
                                     memif_get_external_region_addr_t *gr,
                                     memif_del_external_region_t *dr,
                                     memif_get_external_buffer_offset_t *go);

/** The same, for a main of the program's own. */
void memif_per_thread_register_external_region (memif_per_thread_main_handle_t pt_main,
                                                memif_add_external_region_t *ar,
                                                memif_get_external_region_addr_t *gr,
                                                memif_del_external_region_t *dr,
                                                memif_get_external_buffer_offset_t *go);

#ifndef _MEMIF_H_
/** What the packets are. Client and server should agree: other peers check it. */
typedef enum
{
  MEMIF_INTERFACE_MODE_ETHERNET = 0,    /**< Ethernet frames */
  MEMIF_INTERFACE_MODE_IP = 1,          /**< IP packets, without a link layer */
  MEMIF_INTERFACE_MODE_PUNT_INJECT = 2, /**< VPP's punt and inject */
} memif_interface_mode_t;
#endif /* _MEMIF_H_ */

/** What an interface is made of. Set unused fields to 0: memif_create fills the defaults in. */
typedef struct
{
  /** NULL: the global main's, /run/vpp/memif.sock. */
  memif_socket_handle_t socket;
  /** A password that both sides must have; up to 23 bytes. Empty: none. */
  uint8_t secret[24];
  /** Queues from client to server: wanted by a client, the most that a server allows. Default 1. */
  uint8_t num_s2m_rings;
  /** Queues from server to client, likewise. Default 1. */
  uint8_t num_m2s_rings;
  /** Bytes in each of a client's buffers, 64 to 65535. Default 2048. */
  uint16_t buffer_size;
  /** A client's rings have 2^log2_ring_size buffers, 1 to 14. Default 10. */
  uint8_t log2_ring_size;
  /** 0: a client ("slave"). Otherwise a server ("master"). */
  uint8_t is_master;
  /** Tells the interfaces of a socket apart: both peers have the same. */
  uint32_t interface_id;
  /** The interface's name, as the peer sees it. */
  uint8_t interface_name[32];
  memif_interface_mode_t mode : 8;
} memif_conn_args_t;

/** Whether the peer sends interrupts. */
typedef enum
{
  MEMIF_RX_MODE_INTERRUPT = 0, /**< for each burst, as at first */
  MEMIF_RX_MODE_POLLING        /**< never */
} memif_rx_mode_t;

/** One buffer. A packet has one, or several with MEMIF_BUFFER_FLAG_NEXT in all but the last. */
typedef struct
{
  uint16_t desc_index; /**< the library's */
  void *ring;          /**< the library's */
  /** Bytes of the packet in this buffer; at most the room, when sending. */
  uint32_t len;
/** The packet continues in the next buffer. */
#define MEMIF_BUFFER_FLAG_NEXT (1 << 0)
/** The buffer was received. */
#define MEMIF_BUFFER_FLAG_RX (1 << 1)
  uint8_t flags;
  /** The bytes. A client that sends may move it within the buffer. */
  void *data;
} memif_buffer_t;

/** A queue, in memif_details_t. */
typedef struct
{
  uint8_t region;
  uint8_t qid;
  uint32_t ring_size;
/** The receiver polls, and wants no interrupts. */
#define MEMIF_QUEUE_FLAG_POLLING 1
  uint16_t flags;
  uint16_t head;
  uint16_t tail;
  uint16_t buffer_size;
} memif_queue_details_t;

/** A memory region, in memif_details_t. */
typedef struct
{
  uint8_t index;
  void *addr;
  uint32_t size;
  int fd;
  uint8_t is_external; /**< whether the program has made or mapped it */
} memif_region_details_t;

/** An interface, as memif_get_details finds it. Texts and arrays are in the caller's buffer. */
typedef struct
{
  uint8_t *if_name;
  uint8_t *inst_name;
  uint8_t *remote_if_name;
  uint8_t *remote_inst_name;

  uint32_t id;
  uint8_t *secret; /**< NULL without one */
  uint8_t role;    /**< 0: server, 1: client */
  uint8_t mode;
  uint8_t *socket_filename;
  uint8_t regions_num;
  memif_region_details_t *regions;
  uint8_t rx_queues_num;
  uint8_t tx_queues_num;
  memif_queue_details_t *rx_queues;
  memif_queue_details_t *tx_queues;

  uint8_t *error;       /**< the last reason that a peer sent for disconnecting */
  uint8_t link_up_down; /**< 1: connected, 0: not */
} memif_details_t;

/** Returns the version of the memif protocol: 0x0200. */
uint16_t memif_get_version (void);

/** Returns the text of an error. It must not be changed. */
char *memif_strerror (int err_code);

/**
 * Makes the global main. `app_name` is the program's name, as peers see it; NULL:
 * MEMIF_DEFAULT_APP_NAME. `on_control_fd_update` is how the program learns which descriptors to
 * watch; NULL: it calls memif_poll_event. The memory functions are for the library's records; NULL:
 * malloc, realloc, free. Disconnected clients connect again every 2 s. MEMIF_ERR_ALREADY when there
 * is one.
 */
int memif_init (memif_control_fd_update_t *on_control_fd_update, char *app_name,
                memif_alloc_t *memif_alloc, memif_realloc_t *memif_realloc,
                memif_free_t *memif_free);

/** Makes a main of the program's own, and sets *pt_main to it. It has no default socket. */
int memif_per_thread_init (memif_per_thread_main_handle_t *pt_main, void *private_ctx,
                           memif_control_fd_update_t *on_control_fd_update, char *app_name,
                           memif_alloc_t *memif_alloc, memif_realloc_t *memif_realloc,
                           memif_free_t *memif_free);

/**
 * Ends the global main with its sockets and interfaces, without a callback. MEMIF_ERR_INVAL_ARG when
 * the default socket has interfaces: delete these first.
 */
int memif_cleanup (void);

/** Ends a main with its sockets and interfaces, without a callback, and sets *pt_main to NULL. */
int memif_per_thread_cleanup (memif_per_thread_main_handle_t *pt_main);

/**
 * Makes a socket at a path, or with an abstract name after `@`, and sets *sock to it. It listens
 * while it has servers; servers and clients cannot share it. `private_ctx` has no meaning.
 */
int memif_create_socket (memif_socket_handle_t *sock, const char *filename, void *private_ctx);

/** The same, with a main of the program's own. */
int memif_per_thread_create_socket (memif_per_thread_main_handle_t pt_main,
                                    memif_socket_handle_t *sock, const char *filename,
                                    void *private_ctx);

/** Deletes a socket and sets *sock to NULL. MEMIF_ERR_INVAL_ARG when it has interfaces. */
int memif_delete_socket (memif_socket_handle_t *sock);

/** Returns the path that the socket was made with, or NULL. It stays until the socket is deleted. */
const char *memif_get_socket_filename (memif_socket_handle_t sock);

/** Sets when disconnected clients connect again: see timerfd_settime. */
int memif_set_connection_request_timer (struct itimerspec timer);

/** The same, for a main of the program's own. */
int memif_per_thread_set_connection_request_timer (memif_per_thread_main_handle_t pt_main,
                                                   struct itimerspec timer);

/**
 * Waits up to `timeout` milliseconds for one event, without end if that is negative, and handles
 * it. Returns MEMIF_ERR_POLL_CANCEL after memif_cancel_poll_event; MEMIF_ERR_SYSCALL after a signal;
 * MEMIF_ERR_BAD_FD with on_control_fd_update.
 */
int memif_poll_event (int timeout);

/** The same, for a main of the program's own. */
int memif_per_thread_poll_event (memif_per_thread_main_handle_t pt_main, int timeout);

/** memif_cancel_poll_event exists. */
#define MEMIF_HAVE_CANCEL_POLL_EVENT 1

/** Makes memif_poll_event, on another thread or called next, return MEMIF_ERR_POLL_CANCEL once. */
int memif_cancel_poll_event (void);

/** The same, for a main of the program's own. */
int memif_per_thread_cancel_poll_event (memif_per_thread_main_handle_t pt_main);

/** Handles an event on a descriptor that the program watches. */
int memif_control_fd_handler (int fd, uint8_t events);

/** The same, for a main of the program's own. */
int memif_per_thread_control_fd_handler (memif_per_thread_main_handle_t pt_main, int fd,
                                         uint8_t events);

/**
 * Makes an interface, and sets *conn, which must be NULL, to it. A server listens, and a client
 * connects. Where no server is, a client connects later: with the timer, or by
 * memif_request_connection. Without on_interrupt, poll the queues, or their descriptors
 * (memif_get_queue_efd).
 */
int memif_create (memif_conn_handle_t *conn, memif_conn_args_t *args,
                  memif_connection_update_t *on_connect, memif_connection_update_t *on_disconnect,
                  memif_interrupt_t *on_interrupt, void *private_ctx);

/**
 * Deletes an interface and sets *conn to NULL. If it has a link, on_disconnect is called first.
 */
int memif_delete (memif_conn_handle_t *conn);

/**
 * Connects a client now. MEMIF_ERR_ALRCONN when it is connected or connecting; MEMIF_ERR_INVAL_ARG
 * for a server.
 */
int memif_request_connection (memif_conn_handle_t conn);

/**
 * Describes an interface in *md, with texts and arrays in the `buflen` bytes at `buf`: 2 KiB do for
 * 16 queues. MEMIF_ERR_NOBUF_DET when it is too small; what did not fit is NULL.
 */
int memif_get_details (memif_conn_handle_t conn, memif_details_t *md, char *buf, ssize_t buflen);

/** Sets whether the peer sends interrupts on a queue to receive on. */
int memif_set_rx_mode (memif_conn_handle_t conn, memif_rx_mode_t rx_mode, uint16_t qid);

/**
 * Sets *fd to the descriptor of a queue to receive on. It is readable when the peer has announced
 * packets, until memif_rx_burst has received all. The library closes it.
 */
int memif_get_queue_efd (memif_conn_handle_t conn, uint16_t qid, int *fd);

/**
 * Reserves `count` packets of `size` bytes, and describes their buffers in `bufs`: a packet that is
 * longer than a buffer takes several. Sets *count_out to the number of buffers. A packet gets all
 * its buffers or none; MEMIF_ERR_NOBUF_RING when some got none.
 *
 * `bufs` has room for the buffers of all these packets. A master's are the peer's, who says how long they
 * are: with a peer that is not trusted, that is room for as many buffers as the ring has.
 */
int memif_buffer_alloc (memif_conn_handle_t conn, uint16_t qid, memif_buffer_t *bufs,
                        uint16_t count, uint16_t *count_out, uint16_t size);

/**
 * Sends reserved buffers, in the order in which they were reserved, and sets *tx to their number.
 * MEMIF_ERR_INVAL_ARG at one that is out of order, empty, or has len or data outside its buffer;
 * those before it are sent. A packet is sent when its last buffer is.
 */
int memif_tx_burst (memif_conn_handle_t conn, uint16_t qid, memif_buffer_t *bufs, uint16_t count,
                    uint16_t *tx);

/**
 * Receives up to `count` buffers, and sets *rx to their number. They are the program's until
 * memif_refill_queue. MEMIF_ERR_NOBUF when more are there.
 */
int memif_rx_burst (memif_conn_handle_t conn, uint16_t qid, memif_buffer_t *bufs, uint16_t count,
                    uint16_t *rx);

/**
 * Gives up to `count` received buffers back, in the order in which they were received. A client
 * offers them to the server, all but their first `headroom` bytes: call this from on_connect with
 * a count of -1, to offer all.
 */
int memif_refill_queue (memif_conn_handle_t conn, uint16_t qid, uint16_t count, uint16_t headroom);

/**
 * A client passes received buffers on without a copy: it reserves a buffer for each on queue `qid`,
 * which changes places with it. Send `bufs` with memif_tx_burst, and refill the receive queue, which
 * now has the empty ones. Sets *count_out to their number; MEMIF_ERR_NOBUF_RING when there was no
 * room for all.
 */
int memif_buffer_enq_tx (memif_conn_handle_t conn, uint16_t qid, memif_buffer_t *bufs,
                         uint16_t count, uint16_t *count_out);

#ifdef __cplusplus
}
#endif

#endif /* _LIBMEMIF_H_ */
