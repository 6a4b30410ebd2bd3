# The same with VFs: docs/deploy.md with its commands for a card.
# needs=sriov
# limit=400
with_vf=yes
. /lab/scenarios/11-deploy.sh
