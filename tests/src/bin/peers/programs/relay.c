// A guest whose card is a TAP: passes packets between a TAP of the host, on its bridge, and one of
// the guest's own in a network namespace of its own, as a virtual machine's program without vhost
// does. relay HOST-TAP GUEST-TAP
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST = 70000, AT_ONCE = 64 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_tap(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        fail(name);
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
        fail("offloads");
    return fd;
}

static void pass(int from, int to)
{
    static char packet[MOST];
    for (int i = 0; i < AT_ONCE; i++) {
        ssize_t length = read(from, packet, sizeof packet);
        if (length <= 0)
            return;
        // A queue that is full drops, as a card does.
        if (write(to, packet, length) < 0)
            return;
    }
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc != 3)
        return 2;
    int host = open_tap(argv[1]);
    if (unshare(CLONE_NEWNET))
        fail("unshare");
    int guest = open_tap(argv[2]);
    puts("READY");
    fflush(stdout);
    struct pollfd both[2] = { { .fd = host, .events = POLLIN }, { .fd = guest, .events = POLLIN } };
    for (;;) {
        if (poll(both, 2, -1) < 0)
            fail("poll");
        if (both[0].revents)
            pass(host, guest);
        if (both[1].revents)
            pass(guest, host);
    }
}
