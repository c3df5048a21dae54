//! Races under the explorer: scenarios, what runs them step by step, and the commands that search.

mod changes;
pub mod command;
mod disk;
mod engine;
mod file_end;
mod file_words;
mod files;
mod fuzz;
mod held;
mod model;
mod openings;
mod oracles;
pub mod repeat;
pub mod run;
pub mod scenario;
pub mod scenarios;
mod shadow;
mod spent;
pub mod stage;
pub mod subject;
pub mod suite;
pub mod theatre;
#[cfg(test)]
mod toy;

#[cfg(not(target_os = "none"))]
pub use engine::{hide_verdicts, is_verdict};
