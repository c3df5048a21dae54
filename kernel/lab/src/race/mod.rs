//! Races under the explorer: scenarios, and what runs them step by step.

mod disk;
mod engine;
mod oracles;
pub mod scenario;
pub mod scenarios;
mod shadow;
pub mod stage;
pub mod theatre;
