# xenvelope-backend is killed and started again under load: guests go on, those with our frontend and a stock one.
# needs=plain
# limit=300
backend_config 'default-route-between-guests = "switch"'
backend_start
guest_create s3 number=3 vif=ours
agents_up 1 2
guest_up s3
guest_address s3 eth0 3
serve a1
transfer_start ours a2 10.9.0.1 300000000
transfer_start stock s3 10.9.0.1 200000000
for time in 1 2; do
    step "killed, time $time"
    transfer_runs ours a2
    transfer_runs stock s3
    backend_kill
    sleep 1
    backend_start
    sleep 4
done
transfer_limit=200
transfer_end ours a2
transfer_end stock s3
step 'new connections'
both_ways a2 10.9.0.1 10000000
both_ways s3 10.9.0.1 10000000
ping_ok a2 10.9.0.3
backend_alive
