/*
 * Sends every frame for this station back to its sender, and sleeps meanwhile.
 *
 *     cc reflector.c $(pkg-config --cflags --libs shmbus) -o reflector
 *     ./reflector /dev/shm/lan
 */
#include <err.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shmbus.h>

#define BURST 32

/* Receives a burst and sends it back; returns how many frames it had. */
static int reflect(shmbus_t *bus, const uint8_t mac[6])
{
    static uint8_t memory[BURST][SHMBUS_MAX_BIG_FRAME];
    struct shmbus_frame frames[BURST];
    struct iovec back[BURST];
    for (int i = 0; i < BURST; i++)
        frames[i] = (struct shmbus_frame){ .data = memory[i], .size = sizeof memory[i] };
    int received = shmbus_recv_burst(bus, frames, BURST), count = 0;
    for (int i = 0; i < received; i++) {
        if (memcmp(memory[i], mac, 6) != 0)
            continue; /* a broadcast */
        memcpy(memory[i], memory[i] + 6, 6);
        memcpy(memory[i] + 6, mac, 6);
        back[count++] = (struct iovec){ memory[i], frames[i].length };
    }
    if (count > 0 && shmbus_send_burst(bus, back, count, NULL) < 0)
        warnx("%s", shmbus_last_error());
    return received;
}

int main(int argc, char **argv)
{
    struct shmbus_options options = SHMBUS_OPTIONS_INIT;
    shmbus_t *bus;
    uint8_t mac[6];
    if (argc != 2)
        errx(2, "usage: reflector BUS");
    options.name = "reflector";
    if (shmbus_join(argv[1], &options, &bus) < 0 || shmbus_mac(bus, mac) < 0)
        errx(1, "%s", shmbus_last_error());
    printf("%02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    fflush(stdout);
    struct pollfd fds[] = { { shmbus_fd(bus), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
    int received = 0;
    while (received >= 0 && fds[1].revents == 0) { /* until standard input ends */
        while ((received = reflect(bus, mac)) > 0)
            ;
        if (received == 0 && (received = shmbus_arm(bus)) == 0)
            poll(fds, 2, SHMBUS_MAX_SLEEP_MS);
        shmbus_disarm(bus);
    }
    if (received < 0)
        errx(1, "%s", shmbus_last_error());
    return -shmbus_close(bus);
}
