// One side of a DPDK port: dpdk EAL-OPTIONS -- tx|rx LENGTH BURST FULL
#include "frame.h"

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { AT_ONCE = 32, TRIES = 4096, RING = 1024 };

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, rte_strerror(rte_errno));
    exit(1);
}

int main(int argc, char **argv)
{
    mortal();
    int used = rte_eal_init(argc, argv);
    if (used < 0)
        fail("EAL");
    argc -= used, argv += used;
    if (argc != 5)
        return 2;
    int sends = !strcmp(argv[1], "tx"), burst = atoi(argv[3]), full = atoi(argv[4]);
    size_t length = expected = atoi(argv[2]);
    // As testpmd has them, and for the longest frames as many as fit the memory.
    unsigned room = length <= 2048 ? 2176 : length <= 9216 ? 9344 : 65535;
    unsigned count = length <= 10000 ? 8191 : 2999;
    struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", count, 250, 0, room, 0);
    if (!pool)
        fail("no memory for buffers");
    struct rte_eth_conf conf;
    memset(&conf, 0, sizeof conf);
    if (rte_eth_dev_configure(0, 1, 1, &conf) || rte_eth_rx_queue_setup(0, 0, RING, 0, 0, pool)
        || rte_eth_tx_queue_setup(0, 0, RING, 0, 0) || rte_eth_dev_start(0))
        fail("the port does not start");
    ready();
    struct rte_mbuf *held[AT_ONCE];
    uint64_t sent = 0;
    for (unsigned turn = 0;; turn++) {
        if (turn % 16 == 0 && tick(sends ? sent : frames))
            break;
        if (!sends) {
            unsigned got = rte_eth_rx_burst(0, 0, held, AT_ONCE);
            for (unsigned i = 0; i < got; i++)
                read_frame(rte_pktmbuf_mtod(held[i], uint8_t *), held[i]->pkt_len);
            rte_pktmbuf_free_bulk(held, got);
            continue;
        }
        if (rte_pktmbuf_alloc_bulk(pool, held, burst))
            continue;
        for (int i = 0; i < burst; i++) {
            held[i]->pkt_len = held[i]->data_len = length;
            write_frame(rte_pktmbuf_mtod(held[i], uint8_t *), length, full);
        }
        int gone = 0;
        for (int tries = 0; gone < burst && tries < TRIES; tries++)
            gone += rte_eth_tx_burst(0, 0, held + gone, burst - gone);
        sent += gone;
        if (gone < burst)
            rte_pktmbuf_free_bulk(held + gone, burst - gone);
    }
    rest();
}
