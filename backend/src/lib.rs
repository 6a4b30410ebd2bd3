//! The driver domain's side: netif back half, switch, control plane, forwarding tables, direct-channel relay
