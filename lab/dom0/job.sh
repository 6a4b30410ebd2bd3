# job.sh ID: runs one job that the host left, with its time limit, and cleans up after it.
id=$1
cat >/run/job <<X
. /lab/dom0/profile.sh
set -e
. /lab/jobs/$id
X
timeout -s KILL "$(cat "/lab/jobs/$id.limit")" sh /run/job >"/lab/jobs/$id.output" 2>&1
status=$?
if [ $status -ne 0 ]; then
    [ $status -ne 137 ] || echo "time limit of $(cat "/lab/jobs/$id.limit") s reached" >>"/lab/jobs/$id.output"
    mkdir -p "/lab/logs/$id"
    timeout 60 sh -c ". /lab/dom0/profile.sh; keep_logs /lab/logs/$id" >"/lab/logs/$id/keep_logs.log" 2>&1
fi
if ! [ -e "/lab/jobs/$id.keep" ]; then
    timeout -s KILL 50 sh -c '. /lab/dom0/profile.sh; clean_up' >/run/clean_up.log 2>&1 ||
        { echo "clean-up failed:"; cat /run/clean_up.log; } >>"/lab/jobs/$id.output"
fi
echo $status >"/lab/jobs/$id.status.new"
mv "/lab/jobs/$id.status.new" "/lab/jobs/$id.status"
