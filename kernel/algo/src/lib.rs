//! L0: pure algorithms of the memory manager. No `unsafe`, no allocation, no clock, no CPU:
//! every structure lives in memory that the caller lends, so each can be tested on the host alone.
#![no_std]
#![forbid(unsafe_code)]
