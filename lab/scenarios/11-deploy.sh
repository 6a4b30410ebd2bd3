# The commands of docs/deploy.md, from nothing to two guests with envelopes, and back.
# needs=plain
# limit=400
page_blocks /lab/docs/deploy.md

# What the page supposes to be there: the folder that was built, and a bridge.
rm -rf /run/deploy && mkdir -p /run/deploy/root/xenvelope
cp -r /lab/etc/. /lab/bin/xenvelope-backend /lab/bin/xenvelope-guest /run/deploy/root/xenvelope/
rm -rf /root/xenvelope && cp -r /run/deploy/root/xenvelope /root/
stock_bridge

# The page's guests have disks and files in /etc/xen; here they are images that the lab makes, with
# the same vif, and the folder in them.
xl() {
    case "$*" in
    'create /etc/xen/a1.cfg') deploy_guest 1 ;;
    'create /etc/xen/a2.cfg') deploy_guest 2 ;;
    *) command xl "$@" ;;
    esac
}
deploy_guest() {
    grep -q "^vif = \[ 'mac=$(guest_mac 1),script=vif-xenvelope' \]" /lab/docs/deploy.md || fail 'the page has another vif'
    guest_create "a$1" memory=400 number="$1" vif=ours extra=/run/deploy pci="${with_vf:+$(card_vf $(($1 - 1)))}"
    guest_up "a$1"
}

if [ -n "${with_vf:-}" ]; then page_run '' also vf; else page_run; fi

step 'payload, and envelopes'
serve a1
both_ways a2 10.9.0.1 20000000
expect 'frames granted to a1' "$(agent_counter a2 granted-frames)" -gt 100
expect 'envelopes by the channel' "$(agent_counter a2 sent-by/envelopes-direct)" -gt 100

# With VFs a guest's broadcasts go to the card, not to the bridge.
if [ -z "${with_vf:-}" ]; then
    step 'a stock guest on the bridge beside'
    guest_create u3 number=3
    guest_up u3
    guest_address u3 eth0 3
    ping_ok u3 10.9.0.1
fi

step 'removal'
page_run remove
rm -rf /root/xenvelope /run/deploy
