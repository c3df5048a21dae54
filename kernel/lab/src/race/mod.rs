//! Races under the explorer: scenarios, and what runs them step by step.

pub mod scenario;
pub mod scenarios;
pub mod stage;
