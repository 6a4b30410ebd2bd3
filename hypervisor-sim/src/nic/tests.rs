//! The card as a whole, on memory that is a vector.

mod capture;
mod frames;
mod hardware;
mod host;
mod kinds;
mod ledger;
mod queues;
mod rules;
mod time;
mod tso;
mod unplug;

use hardware::{Host, Port, frame};
