//! `xenvelope-sim plot`.

use std::path::PathBuf;

use clap::Args;

use super::sweep::rounds;

/// What `plot` is asked.
#[derive(Args, Clone, Debug)]
pub struct PlotArguments {
    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Fewer points and short rounds: half a minute instead of some minutes
    #[arg(long)]
    pub quick: bool,

    /// Rounds of each timing, 1 to 100: the median is drawn, with the least and the most
    #[arg(long, value_name = "N", default_value = "3", value_parser = rounds, allow_negative_numbers = true)]
    pub rounds: usize,
}
