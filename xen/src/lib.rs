//! The seam over Xen's own devices and hypercalls
