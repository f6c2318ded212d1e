/*
 * Calls every function of shmbus.h, and meets every error that a program can meet.
 * Usage: every_call FOLDER. It prints "ok", or the line of the first check that fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmbus.h>

/* What programs were compiled with stays as it is. */
_Static_assert(sizeof(struct shmbus_options) == 56, "options");
_Static_assert(offsetof(struct shmbus_options, size) == 24, "options");
_Static_assert(offsetof(struct shmbus_options, poll_us) == 48, "options");
_Static_assert(sizeof(struct shmbus_frame) == 32, "a frame");
_Static_assert(offsetof(struct shmbus_frame, length) == 12, "a frame");
_Static_assert(offsetof(struct shmbus_frame, sender) == 24, "a frame");
_Static_assert(sizeof(struct shmbus_stats) == 128, "counters");

#define CHECK(what)                                                                          \
    do {                                                                                     \
        if (!(what)) {                                                                       \
            printf("line %d: %s is false; errno %d; %s\n", __LINE__, #what, errno,           \
                   shmbus_last_error());                                                     \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

/* A call fails with this code, sets errno, and has something to say. */
#define FAILS(call, code, number)                                                            \
    do {                                                                                     \
        errno = 0;                                                                           \
        int result_ = (call);                                                                \
        CHECK(result_ == (code));                                                            \
        CHECK(errno == (number));                                                            \
        CHECK(strlen(shmbus_last_error()) > 10);                                             \
        CHECK(strchr(shmbus_last_error(), '\n') == NULL);                                    \
    } while (0)

static char folder[4000];

static const char *in_folder(const char *name)
{
    static char path[4100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static shmbus_t *join(const char *name, const struct shmbus_options *options)
{
    shmbus_t *bus;
    CHECK(shmbus_join(in_folder(name), options, &bus) == 0);
    CHECK(bus != NULL);
    return bus;
}

/* Writes a number into the file of a bus. */
static void scribble(const char *name, off_t at, uint32_t number)
{
    int file = open(in_folder(name), O_RDWR);
    CHECK(file >= 0 && pwrite(file, &number, 4, at) == 4 && close(file) == 0);
}

static void texts(void)
{
    CHECK(strcmp(shmbus_version(), SHMBUS_VERSION) == 0);
    CHECK(strcmp(shmbus_last_error(), "") == 0);
    CHECK(strcmp(shmbus_strerror(0), "success") == 0 && shmbus_strerror(3) == shmbus_strerror(0));
    const char *unknown = shmbus_strerror(-1000);
    CHECK(strcmp(unknown, "unknown error") == 0);
    for (int code = SHMBUS_ERR_INTERNAL; code < 0; code++) {
        CHECK(strcmp(shmbus_strerror(code), unknown) != 0);
        for (int other = SHMBUS_ERR_INTERNAL; other < code; other++)
            CHECK(strcmp(shmbus_strerror(code), shmbus_strerror(other)) != 0);
    }
}

static void opening(void)
{
    shmbus_t *bus = (shmbus_t *)1;
    uint8_t mac[6], group[6] = { 1 };
    struct stat file;
    FAILS(shmbus_join(NULL, NULL, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    CHECK(bus == NULL);
    FAILS(shmbus_join(in_folder("bus"), NULL, NULL), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_shmif_create(NULL, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_tap(NULL, 0, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_join(in_folder("no/folder"), NULL, &bus), SHMBUS_ERR_SYSTEM, ENOENT);
    FAILS(shmbus_tap(in_folder("none"), 0, &bus), SHMBUS_ERR_SYSTEM, ENOENT);
    FAILS(shmbus_join("", NULL, &bus), SHMBUS_ERR_SYSTEM, ENOENT);

    struct shmbus_options options = SHMBUS_OPTIONS_INIT;
    options.flags = SHMBUS_EXISTING;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_SYSTEM, ENOENT);
    options.flags = 1u << 31;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    options.flags = 0, options.reserved = 1;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    options.reserved = 0, options.mode = 01777;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    options.mode = 0, options.size = 12345;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    options.size = 0, options.mac = group;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    for (size_t size = 0; size < sizeof options; size++) {
        options.struct_size = size;
        FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    }
    options.struct_size = SIZE_MAX;
    FAILS(shmbus_join(in_folder("none"), &options, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    /* Options of a later version: fine as long as they are not used. */
    struct {
        struct shmbus_options known;
        uint64_t later;
    } longer = { SHMBUS_OPTIONS_INIT, 7 };
    longer.known.struct_size = sizeof longer;
    FAILS(shmbus_join(in_folder("none"), &longer.known, &bus), SHMBUS_ERR_ARGUMENT, EINVAL);
    longer.later = 0;
    CHECK(access(in_folder("none"), F_OK) != 0);
    CHECK(shmbus_close(join("longer", &longer.known)) == 0);

    struct shmbus_options all = SHMBUS_OPTIONS_INIT;
    uint8_t own[6] = { 2, 0, 0, 0, 0, 1 };
    all.name = "every_call", all.mac = own, all.size = 2 << 20, all.mode = 0640;
    all.flags = SHMBUS_PROMISCUOUS, all.lock_timeout_ms = 50, all.wake_interval_us = 100;
    all.poll_us = 10;
    bus = join("big", &all);
    CHECK(stat(in_folder("big"), &file) == 0);
    CHECK(file.st_size == 2 << 20 && (file.st_mode & 0777) == 0640);
    CHECK(shmbus_max_frame(bus) == SHMBUS_MAX_BIG_FRAME);
    CHECK(shmbus_mac(bus, mac) == 0 && memcmp(mac, own, 6) == 0);
    FAILS(shmbus_mac(bus, NULL), SHMBUS_ERR_ARGUMENT, EINVAL);
    CHECK(shmbus_close(bus) == 0);

    CHECK(shmbus_shmif_create(in_folder("shmif"), &bus) == 0);
    CHECK(stat(in_folder("shmif"), &file) == 0 && file.st_size == 1 << 20);
    CHECK(shmbus_max_frame(bus) == SHMBUS_MAX_FRAME);
    CHECK(shmbus_mac(bus, mac) == 0 && mac[0] == 0xb2 && mac[1] == 0xa0);
    CHECK(shmbus_close(bus) == 0);
    struct shmbus_options fast = SHMBUS_OPTIONS_INIT;
    fast.flags = SHMBUS_OWN_FORMAT;
    bus = join("own", &fast);
    CHECK(shmbus_max_frame(bus) == SHMBUS_MAX_BIG_FRAME);
    CHECK(shmbus_close(bus) == 0);

    int none = open(in_folder("file"), O_WRONLY | O_CREAT, 0600);
    CHECK(none >= 0 && write(none, "no bus at all", 13) == 13 && close(none) == 0);
    FAILS(shmbus_join(in_folder("file"), NULL, &bus), SHMBUS_ERR_NOT_A_BUS, ENOTSUP);
    FAILS(shmbus_join(folder, NULL, &bus), SHMBUS_ERR_NOT_A_BUS, ENOTSUP);

    struct rlimit before, small;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = before;
    small.rlim_cur = 4096;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    FAILS(shmbus_join(in_folder("none"), NULL, &bus), SHMBUS_ERR_NO_ROOM, EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);

    CHECK(shmbus_close(join("damaged", NULL)) == 0);
    scribble("damaged", 20, 0x7fffffff);
    FAILS(shmbus_tap(in_folder("damaged"), 0, &bus), SHMBUS_ERR_DAMAGED, EUCLEAN);
}

static void handles(void)
{
    shmbus_t *closed = join("bus", NULL);
    CHECK(shmbus_close(closed) == 0);
    CHECK(shmbus_close(NULL) == 0);
    /* Its place is taken by others, and is not theirs. */
    shmbus_t *others[3];
    for (int i = 0; i < 3; i++)
        others[i] = join("bus", NULL);
    shmbus_t *wrong[] = { closed, (shmbus_t *)1, (shmbus_t *)&closed, (shmbus_t *)-1 };
    uint8_t frame[60] = { 0xff }, mac[6];
    struct shmbus_frame one = { .data = frame, .size = sizeof frame };
    struct iovec vector = { frame, sizeof frame };
    struct shmbus_stats stats;
    size_t sent = 7;
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        shmbus_t *bus = i == 0 ? NULL : wrong[i - 1];
        if (bus != NULL)
            FAILS(shmbus_close(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_send(bus, frame, sizeof frame), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_send_burst(bus, &vector, 1, &sent), SHMBUS_ERR_HANDLE, EBADF);
        CHECK(sent == 0);
        FAILS(shmbus_flush(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_recv(bus, frame, sizeof frame), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_recv_burst(bus, &one, 1), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_wait(bus, 0), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_fd(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_arm(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_disarm(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_mac(bus, mac), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_max_frame(bus), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_set_promiscuous(bus, 1), SHMBUS_ERR_HANDLE, EBADF);
        FAILS(shmbus_stats(bus, &stats, sizeof stats), SHMBUS_ERR_HANDLE, EBADF);
    }
    for (int i = 0; i < 3; i++)
        CHECK(shmbus_close(others[i]) == 0);
}

static void *wait_for_long(void *bus)
{
    return (void *)(intptr_t)shmbus_wait(bus, -1);
}

static void one_thread_at_a_time(void)
{
    shmbus_t *sleeper = join("bus", NULL), *waker = join("bus", NULL);
    uint8_t frame[60];
    pthread_t thread;
    void *result;
    memset(frame, 0xff, sizeof frame);
    CHECK(pthread_create(&thread, NULL, wait_for_long, sleeper) == 0);
    while (shmbus_max_frame(sleeper) > 0)
        usleep(1000);
    FAILS(shmbus_disarm(sleeper), SHMBUS_ERR_IN_USE, EBUSY);
    FAILS(shmbus_close(sleeper), SHMBUS_ERR_IN_USE, EBUSY);
    CHECK(shmbus_send(waker, frame, sizeof frame) == 1);
    CHECK(pthread_join(thread, &result) == 0 && (intptr_t)result == 1);
    CHECK(shmbus_recv(sleeper, frame, sizeof frame) == 60);
    CHECK(shmbus_close(sleeper) == 0 && shmbus_close(waker) == 0);
}

static void frames(void)
{
    enum { COUNT = 40 };
    static uint8_t out[COUNT][1514], in[COUNT][1514];
    shmbus_t *alice = join("bus", NULL), *bob = join("bus", NULL), *tap;
    struct iovec burst[COUNT];
    struct shmbus_frame room[COUNT];
    struct shmbus_stats stats;
    size_t sent = 7;
    CHECK(shmbus_tap(in_folder("bus"), 0, &tap) == 0);
    for (int i = 0; i < COUNT; i++) {
        memset(out[i], i, sizeof out[i]);
        memset(out[i], 0xff, 6);
        burst[i] = (struct iovec){ out[i], 14 + 1500u * i / (COUNT - 1) };
        room[i] = (struct shmbus_frame){ .data = in[i], .size = sizeof in[i] };
    }
    CHECK(shmbus_recv(bob, in[0], 1514) == 0 && shmbus_recv_burst(bob, room, COUNT) == 0);
    CHECK(shmbus_send_burst(alice, burst, COUNT, &sent) == COUNT && sent == COUNT);
    CHECK(shmbus_recv_burst(bob, room, COUNT) == COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK(room[i].length == burst[i].iov_len);
        CHECK(memcmp(in[i], out[i], room[i].length) == 0);
        CHECK(room[i].seconds > 1000000000 && room[i].microseconds < 1000000);
        CHECK(room[i].sender == room[0].sender && room[i].sender != 0);
    }
    /* As many as there is room for, and no more of each. */
    memset(in, 0xee, sizeof in);
    for (int i = 0; i < COUNT; i++)
        room[i].size = 10;
    CHECK(shmbus_recv_burst(tap, room, 3) == 3);
    CHECK(room[2].length == burst[2].iov_len && in[2][9] == 2 && in[2][10] == 0xee);
    room[0].data = NULL, room[0].size = 0;
    CHECK(shmbus_recv_burst(tap, room, 1) == 1 && room[0].length == burst[3].iov_len);
    CHECK(shmbus_recv(tap, in[9], 5) == (int)burst[4].iov_len && in[9][5] == 0xee);

    CHECK(shmbus_stats(alice, &stats, sizeof stats) == 0);
    CHECK(stats.tx_packets == COUNT && stats.rx_packets == 0);
    CHECK(shmbus_stats(bob, &stats, sizeof stats) == 0);
    CHECK(stats.rx_packets == COUNT && stats.tx_packets == 0 && stats.overruns == 0);
    /* A program of an earlier version, and of a later one. */
    uint64_t few[2] = { 7, 7 }, many[40];
    CHECK(shmbus_stats(bob, (struct shmbus_stats *)few, 8) == 0 && few[0] == COUNT && few[1] == 7);
    memset(many, 0xff, sizeof many);
    CHECK(shmbus_stats(bob, (struct shmbus_stats *)many, sizeof many) == 0 && many[39] == 0);
    FAILS(shmbus_stats(bob, NULL, sizeof stats), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_stats(bob, &stats, 0), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_stats(bob, &stats, SIZE_MAX), SHMBUS_ERR_ARGUMENT, EINVAL);

    FAILS(shmbus_send(alice, NULL, 60), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_send(alice, out[0], 13), SHMBUS_ERR_LENGTH, EMSGSIZE);
    FAILS(shmbus_send(alice, out[0], 1515), SHMBUS_ERR_LENGTH, EMSGSIZE);
    FAILS(shmbus_send(alice, out[0], SIZE_MAX), SHMBUS_ERR_LENGTH, EMSGSIZE);
    FAILS(shmbus_send_burst(alice, NULL, 1, &sent), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_send_burst(alice, burst, SIZE_MAX, &sent), SHMBUS_ERR_ARGUMENT, EINVAL);
    burst[5].iov_len = 3;
    FAILS(shmbus_send_burst(alice, burst, COUNT, &sent), SHMBUS_ERR_LENGTH, EMSGSIZE);
    burst[5].iov_base = NULL;
    FAILS(shmbus_send_burst(alice, burst, COUNT, &sent), SHMBUS_ERR_ARGUMENT, EINVAL);
    CHECK(sent == 0 && shmbus_send_burst(alice, burst, 5, NULL) == 5);
    CHECK(shmbus_send_burst(alice, burst, 0, &sent) == 0);
    FAILS(shmbus_recv(bob, NULL, 60), SHMBUS_ERR_ARGUMENT, EINVAL);
    FAILS(shmbus_recv_burst(bob, NULL, 1), SHMBUS_ERR_ARGUMENT, EINVAL);
    room[1].data = NULL, room[1].size = 60;
    FAILS(shmbus_recv_burst(bob, room, 2), SHMBUS_ERR_ARGUMENT, EINVAL);
    CHECK(shmbus_recv_burst(bob, room, 0) == 0);
    CHECK(shmbus_close(bob) == 0);

    /* What is for others. */
    bob = join("bus", NULL);
    uint8_t other[60] = { 2, 0, 0, 0, 0, 9 };
    CHECK(shmbus_send(alice, other, sizeof other) == 1 && shmbus_recv(bob, in[0], 1514) == 0);
    CHECK(shmbus_set_promiscuous(bob, 1) == 0);
    CHECK(shmbus_send(alice, other, sizeof other) == 1 && shmbus_recv(bob, in[0], 1514) == 60);

    FAILS(shmbus_send(tap, out[0], 60), SHMBUS_ERR_TAP, EPERM);
    FAILS(shmbus_send_burst(tap, burst, 1, NULL), SHMBUS_ERR_TAP, EPERM);
    FAILS(shmbus_flush(tap), SHMBUS_ERR_TAP, EPERM);
    FAILS(shmbus_mac(tap, in[0]), SHMBUS_ERR_TAP, EPERM);
    FAILS(shmbus_set_promiscuous(tap, 1), SHMBUS_ERR_TAP, EPERM);
    CHECK(shmbus_max_frame(tap) == SHMBUS_MAX_FRAME && shmbus_close(tap) == 0);
    FAILS(shmbus_tap(in_folder("bus"), 1u << 30, &tap), SHMBUS_ERR_ARGUMENT, EINVAL);
    CHECK(shmbus_tap(in_folder("bus"), SHMBUS_TAP_OLDEST | SHMBUS_TAP_RUNTS, &tap) == 0);
    CHECK(shmbus_recv(tap, in[0], 1514) == 60 && in[0][6] == 0xff); /* of an earlier part */
    CHECK(shmbus_close(tap) == 0 && shmbus_close(alice) == 0 && shmbus_close(bob) == 0);
}

static void sleeping(void)
{
    shmbus_t *sender = join("bus", NULL), *receivers[2];
    uint8_t frame[60];
    memset(frame, 0xff, sizeof frame);
    receivers[0] = join("bus", NULL);
    CHECK(shmbus_tap(in_folder("bus"), 0, &receivers[1]) == 0);
    for (int i = 0; i < 2; i++) {
        shmbus_t *receiver = receivers[i];
        CHECK(shmbus_send(sender, frame, sizeof frame) == 1);
        struct pollfd fd = { shmbus_fd(receiver), POLLIN, 0 };
        CHECK(fd.fd >= 0 && shmbus_fd(receiver) == fd.fd);
        CHECK(shmbus_arm(receiver) == 1 && shmbus_wait(receiver, -1) == 1);
        while (shmbus_recv(receiver, frame, sizeof frame) > 0)
            ;
        CHECK(shmbus_wait(receiver, 0) == 0 && shmbus_wait(receiver, 5) == 0);
        CHECK(shmbus_arm(receiver) == 0 && poll(&fd, 1, 10) == 0);
        CHECK(shmbus_send(sender, frame, sizeof frame) == 1);
        CHECK(poll(&fd, 1, 10000) == 1);
        CHECK(shmbus_disarm(receiver) == 0 && shmbus_disarm(receiver) == 0);
        CHECK(poll(&fd, 1, 0) == 0);
        CHECK(shmbus_recv(receiver, frame, sizeof frame) == 60);
        CHECK(shmbus_recv(receiver, frame, sizeof frame) == 0);
    }
    for (int i = 0; i < 2; i++)
        CHECK(shmbus_close(receivers[i]) == 0);

    /* A wake-up that is put off. */
    struct shmbus_options lazy = SHMBUS_OPTIONS_INIT;
    lazy.wake_interval_us = 1000000000;
    shmbus_t *sleepy = join("bus", NULL), *late = join("bus", &lazy);
    struct pollfd fd = { shmbus_fd(sleepy), POLLIN, 0 };
    CHECK(shmbus_send(late, frame, sizeof frame) == 1 && shmbus_recv(sleepy, frame, 60) == 60);
    CHECK(shmbus_arm(sleepy) == 0 && shmbus_send(late, frame, sizeof frame) == 1);
    CHECK(poll(&fd, 1, 10) == 0);
    CHECK(shmbus_flush(late) == 0 && poll(&fd, 1, 10000) == 1);
    CHECK(shmbus_close(sleepy) == 0 && shmbus_close(late) == 0 && shmbus_close(sender) == 0);
}

static void trouble(void)
{
    struct shmbus_options hasty = SHMBUS_OPTIONS_INIT;
    hasty.lock_timeout_ms = 30;
    shmbus_t *bus = join("locked", &hasty), *tap;
    uint8_t frame[60] = { 0xff };
    struct iovec burst = { frame, sizeof frame };
    size_t sent = 7;
    scribble("locked", 24, 1); /* the lock, of an unknown owner */
    FAILS(shmbus_send(bus, frame, sizeof frame), SHMBUS_ERR_BUSY, EAGAIN);
    FAILS(shmbus_send_burst(bus, &burst, 1, &sent), SHMBUS_ERR_BUSY, EAGAIN);
    CHECK(sent == 0);
    scribble("locked", 24, 0);
    CHECK(shmbus_send_burst(bus, &burst, 1, &sent) == 1 && sent == 1);
    CHECK(shmbus_close(bus) == 0);

    CHECK(shmbus_survive_truncation() == 0);
    bus = join("gone", NULL);
    CHECK(shmbus_tap(in_folder("gone"), 0, &tap) == 0);
    CHECK(shmbus_arm(bus) == 0 && shmbus_disarm(bus) == 0);
    CHECK(truncate(in_folder("gone"), 0) == 0);
    FAILS(shmbus_send(bus, frame, sizeof frame), SHMBUS_ERR_LOST, ESTALE);
    FAILS(shmbus_recv(bus, frame, sizeof frame), SHMBUS_ERR_LOST, ESTALE);
    FAILS(shmbus_wait(bus, -1), SHMBUS_ERR_LOST, ESTALE);
    FAILS(shmbus_arm(bus), SHMBUS_ERR_LOST, ESTALE);
    FAILS(shmbus_arm(tap), SHMBUS_ERR_LOST, ESTALE);
    FAILS(shmbus_recv(tap, frame, sizeof frame), SHMBUS_ERR_LOST, ESTALE);
    CHECK(shmbus_close(bus) == 0 && shmbus_close(tap) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 2 || strlen(argv[1]) >= sizeof folder)
        return 2;
    strcpy(folder, argv[1]);
    texts();
    opening();
    handles();
    one_thread_at_a_time();
    frames();
    sleeping();
    trouble();
    puts("ok");
    return 0;
}
