//! `--store`: the host's store, for programs that speak xenstore's wire protocol.

use std::path::PathBuf;

use clap::Args;

/// The store's socket.
#[derive(Args, Clone, Debug)]
pub struct StoreArguments {
    /// Serves the host's store at that socket while the program runs, for xenstore-ls and others
    /// with XENSTORED_PATH=SOCKET
    #[arg(long = "store", value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
}
