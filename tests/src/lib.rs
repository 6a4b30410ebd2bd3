//! End-to-end, hostile-peer and loom tests of xenvelope
