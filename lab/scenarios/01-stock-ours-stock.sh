# Two guests with Linux' own netfront talk through our backend: several queues, split event channels, scatter-gather, GSO.
# needs=plain
backend_config 'queues = 4'
backend_start
# Two processors, hence two queues: for function, not for speed.
guest_create s1 number=1 vif=ours vcpus=2 cpus=1-2
guest_create s2 number=2 vif=ours cpus=3
guest_up s1 s2
guest_address s1 eth0 1
guest_address s2 eth0 2
serve s1

step 'what the backend offers and the frontend took'
back=/local/domain/0/backend/vif/$(guest_domid s1)/0
front=/local/domain/$(guest_domid s1)/device/vif/0
expect 'queues offered' "$(xenstore-read $back/multi-queue-max-queues)" -ge 2
for feature in split-event-channels sg gso-tcpv4 gso-tcpv6; do
    expect "feature-$feature" "$(xenstore-read $back/feature-$feature)" -eq 1
done
expect 'queues used' "$(xenstore-read $front/multi-queue-num-queues)" -eq 2
for queue in 0 1; do
    expect "event channel of queue $queue, to send" "$(xenstore-read $front/queue-$queue/event-channel-tx)" -gt 0
    expect "event channel of queue $queue, to receive" "$(xenstore-read $front/queue-$queue/event-channel-rx)" -ne \
        "$(xenstore-read $front/queue-$queue/event-channel-tx)"
done

step 'traffic'
ping_ok s2 10.9.0.1
ping_ok s2 fd09::1
for address in 10.9.0.1 fd09::1; do
    packets=$(statistic s1 eth0 rx_packets)
    bytes=$(statistic s1 eth0 rx_bytes)
    transfer s2 $address 20000000
    packets=$(($(statistic s1 eth0 rx_packets) - packets))
    bytes=$(($(statistic s1 eth0 rx_bytes) - bytes))
    # More than a frame of the MTU on average: segments came uncut, in several slots.
    expect "bytes a packet, to s1 by $address" $((bytes / packets)) -gt 1514
    packets=$(statistic s2 eth0 rx_packets)
    bytes=$(statistic s2 eth0 rx_bytes)
    transfer s2 $address 20000000 --reverse
    packets=$(($(statistic s2 eth0 rx_packets) - packets))
    bytes=$(($(statistic s2 eth0 rx_bytes) - bytes))
    expect "bytes a packet, to s2 by $address" $((bytes / packets)) -gt 1514
done

step 'both queues carry frames both ways'
# A connection stays on a queue that its addresses and ports choose.
for attempt in 1 2 3 4 5 6; do
    transfer s2 10.9.0.1 1000000
    transfer s2 10.9.0.1 1000000 --reverse
done
in_guest s1 'grep vif0-q /proc/interrupts'
for queue in q0-tx q0-rx q1-tx q1-rx; do
    expect "events of $queue" "$(in_guest s1 "awk '/vif0-$queue/ { print \$2 + \$3 }' /proc/interrupts")" -gt 5
done
backend_alive
