# Two guests with Linux' own netfront, netback and a bridge: nothing of ours. It shows that the lab works.
# needs=plain
stock_bridge
guest_create u1 number=1
guest_create u2 number=2
guest_up u1 u2
in_guest u1 'ip addr add 10.9.0.1/24 dev eth0; ip link set eth0 up'
in_guest u2 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up'
in_guest u2 'ping -c 3 -W 5 10.9.0.1'
in_guest_bg u1 serve 'xenvelope-lab serve --port 7000'
in_guest u2 'xenvelope-lab send 10.9.0.1:7000 --bytes 20000000' 60
in_guest u2 'xenvelope-lab send 10.9.0.1:7000 --bytes 20000000 --reverse' 60
