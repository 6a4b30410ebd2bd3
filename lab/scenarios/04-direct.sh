# Two guests with our frontend and a channel between them: nothing goes through dom0, which stays idle.
# needs=plain
payload=100000000
backend_config 'default-route-between-guests = "direct"'
backend_start
agents_up 1 2
serve a1
ping_ok a2 10.9.0.1
transfer a2 10.9.0.1 1000000

step 'how busy dom0 is when nothing is sent'
used=$(domain_seconds 0)
began=$(cut -d' ' -f1 /proc/uptime)
in_guest a2 'sleep 12'
idle=$(awk "BEGIN { print ($(domain_seconds 0) - $used) / ($(cut -d' ' -f1 /proc/uptime) - $began) }")

step 'and when a2 sends to a1'
in_bytes=$(backend_counter bytes-in)
out_bytes=$(backend_counter bytes-out)
used=$(domain_seconds 0)
began=$(cut -d' ' -f1 /proc/uptime)
transfer a2 10.9.0.1 $payload
busy=$(awk "BEGIN { print ($(domain_seconds 0) - $used) / ($(cut -d' ' -f1 /proc/uptime) - $began) }")
grep -q '"bytes-in":' $backend_status || fail "the backend does not say how many bytes its vifs carry"
at_most 'bytes by vifs, of the payload' $(($(backend_counter bytes-in) - in_bytes + $(backend_counter bytes-out) - out_bytes)) $payload 1
echo "dom0: $idle of a processor idle, $busy in the transfer"
less_or_equal "$busy" "$(awk "BEGIN { print $idle + 0.05 }")" || fail "dom0 uses $busy of a processor, $idle when idle"
expect 'envelopes by the channel' "$(agent_counter a2 sent-by/envelopes-direct)" -gt 100
transfer a2 10.9.0.1 20000000 --reverse
backend_alive
