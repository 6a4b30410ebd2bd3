// One side of a path of the kernel's:
// kernel packet|tap tx|rx INTERFACE LENGTH BURST FULL CORE own|here
#include "frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { AT_ONCE = 32, MOST = 65600 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void no_ipv6(void)
{
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
    if (fd >= 0) {
        if (write(fd, "1", 1) != 1)
            perror("ipv6");
        close(fd);
    }
}

// Waits until somebody gives us the interface, and switches it on.
static void switch_on(const char *name, int mtu)
{
    for (int tries = 0; !if_nametoindex(name); tries++) {
        if (tries > 5000)
            fail(name);
        usleep(1000);
    }
    int control = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_mtu = mtu;
    if (ioctl(control, SIOCSIFMTU, &request))
        fail("mtu");
    if (ioctl(control, SIOCGIFFLAGS, &request))
        fail("flags");
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request))
        fail("up");
    close(control);
}

static uint8_t buffers[AT_ONCE][MOST];
static struct iovec parts[AT_ONCE];
static struct mmsghdr messages[AT_ONCE];

static int open_packet(const char *name, int sends)
{
    int fd = socket(AF_PACKET, SOCK_RAW, sends ? 0 : htons(ETHER_TYPE));
    struct sockaddr_ll address = { .sll_family = AF_PACKET,
                                   .sll_protocol = sends ? 0 : htons(ETHER_TYPE),
                                   .sll_ifindex = if_nametoindex(name) };
    int bytes = 16 << 20, one = 1;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address))
        fail("packet socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    if (sends)
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    return fd;
}

static int open_tap(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        fail("tap");
    return fd;
}

int main(int argc, char **argv)
{
    mortal();
    if (argc != 9)
        return 2;
    int is_tap = !strcmp(argv[1], "tap"), sends = !strcmp(argv[2], "tx");
    const char *name = argv[3];
    size_t length = expected = atoi(argv[4]);
    int burst = atoi(argv[5]), full = atoi(argv[6]);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(argv[7]), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("core");
    if (!strcmp(argv[8], "own")) {
        if (unshare(CLONE_NEWNET))
            fail("unshare");
        no_ipv6();
        puts("UNSHARED");
        fflush(stdout);
    }
    int fd;
    if (is_tap) {
        // A packet of which nothing is said in the header in front is one to be taken as it is.
        fd = open_tap(name);
    } else {
        switch_on(name, length > 1514 ? length - 14 : 1500);
        fd = open_packet(name, sends);
    }
    // Who waits for a frame that does not come looks at the clock all the same.
    struct timeval patience = { .tv_usec = 20000 };
    if (!is_tap)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    else if (fcntl(fd, F_SETFL, O_NONBLOCK))
        fail("nonblocking");
    ready();
    size_t before = is_tap ? sizeof(struct virtio_net_hdr) : 0;
    for (int i = 0; i < AT_ONCE; i++) {
        parts[i] = (struct iovec){ buffers[i], sends ? length : MOST };
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    uint64_t sent = 0;
    while (!tick(sends ? sent : frames)) {
        if (sends) {
            for (int i = 0; i < burst; i++)
                write_frame(buffers[i] + before, length, full);
            if (is_tap) {
                for (int i = 0; i < burst; i++)
                    sent += write(fd, buffers[i], before + length) > 0;
            } else {
                for (int gone = 0; gone < burst;) {
                    int more = sendmmsg(fd, messages + gone, burst - gone, 0);
                    if (more < 0 && errno != ENOBUFS && errno != EAGAIN)
                        fail("send");
                    if (more < 0)
                        break;
                    gone += more;
                    sent += more;
                }
            }
        } else if (is_tap) {
            for (int i = 0; i < AT_ONCE; i++) {
                ssize_t got = read(fd, buffers[0], MOST);
                if (got < 0)
                    break;
                // The bridge has things to say too.
                const uint8_t *frame = buffers[0] + before;
                if (got > (ssize_t)(before + HEAD) && frame[12] == ETHER_TYPE >> 8 && frame[13] == (ETHER_TYPE & 0xff))
                    read_frame(frame, got - before);
            }
        } else {
            int got = recvmmsg(fd, messages, AT_ONCE, MSG_WAITFORONE, 0);
            for (int i = 0; i < got; i++)
                read_frame(buffers[i], messages[i].msg_len);
        }
    }
    rest();
}
