//! The serial console on COM1.
//!
//! Locks: the port's own, innermost. Never sleeps. [`emergency`] bypasses the lock, for a panic.

use core::fmt::{self, Write};

use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

/// COM1, where PC firmware and QEMU's first `-serial` put it.
const COM1: u16 = 0x3f8;

struct Port(Uart16550<PioBackend>);

impl Write for Port {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for line in s.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(text) => {
                    self.0.send_bytes_exact(text.as_bytes());
                    self.0.send_bytes_exact(b"\r\n");
                }
                None => self.0.send_bytes_exact(line.as_bytes()),
            }
        }
        Ok(())
    }
}

const fn com1() -> Uart16550<PioBackend> {
    // SAFETY: COM1's eight registers exist on every PC; reading or writing them has no effect on memory.
    match unsafe { Uart16550::new_port(COM1) } {
        Ok(uart) => uart,
        Err(_) => panic!("COM1 is a valid port"),
    }
}

static PORT: Mutex<Port> = Mutex::new(Port(com1()));

/// Programs the UART (8-N-1, FIFO on). Without a UART, output goes nowhere.
pub(crate) fn init() {
    // An absent port is not worth dying for: nothing could be said about it anyway.
    let _ = PORT.lock().0.init(Config::default());
}

/// Prints, with line feeds as CR LF.
pub(crate) fn print(args: fmt::Arguments<'_>) {
    // `Port::write_str` never fails.
    let _ = PORT.lock().write_fmt(args);
}

/// Prints without the lock: for the panic path, where its holder may be stopped for ever.
pub(crate) fn emergency(args: fmt::Arguments<'_>) {
    let _ = Port(com1()).write_fmt(args);
}
