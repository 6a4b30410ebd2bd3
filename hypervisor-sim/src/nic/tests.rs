//! The card as a whole, on memory that is a vector.

mod capture;
mod frames;
mod hardware;
mod host;
mod ledger;
mod rules;
mod time;
mod tso;
mod unplug;

use hardware::{Host, Port, frame};
