//! L1: locks with ranks, per-CPU data, interrupt and preemption tokens, wait queues.
#![no_std]
