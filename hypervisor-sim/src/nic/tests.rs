//! The card as a whole, on memory that is a vector.

mod frames;
mod hardware;
mod host;
mod rules;
mod time;
mod unplug;

use hardware::{Host, Port, frame};
