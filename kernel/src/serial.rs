//! The serial console on COM1: output by polling, input by interrupt into a ring.
//!
//! Output is polled because interrupts would buy nothing: QEMU's UART takes a byte as fast as it is
//! written, and output has to work with interrupts off. Whoever prints holds the port for at most
//! [`CHUNK`] bytes.
//!
//! Locks: `Console` around one call, so that lines of different CPUs do not mix (interrupt handlers
//! skip it: they may have interrupted its holder), `Serial` around the port and the ring. Printing
//! never sleeps; [`wait_key`] does. [`emergency`] takes no lock at all: a panic may have stopped
//! the holder for ever.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use lab::cancel::CONSOLE;
use lab::console::CTRL_C;
use sync::{IrqSpinLock, Rank, SpinLock, WaitQueue, irq, threads};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{Config, Uart16550};

/// COM1, where PC firmware and QEMU's first `-serial` put it.
const COM1: u16 = 0x3f8;
/// COM1's ISA interrupt.
const COM1_LINE: u8 = 4;
/// Bytes written with interrupts off at a time.
const CHUNK: usize = 64;
/// Bytes of input kept for a reader that is busy. More stay with the UART, which tells the sender
/// to wait; a Ctrl-C behind them is not heard until then.
const RING: usize = 4096;
/// How often the port is looked at where there is no interrupt.
const POLL_NS: u64 = 20_000_000;

struct Port {
    uart: Uart16550<PioBackend>,
    keys: [u8; RING],
    /// Keys ever put into and taken from the ring.
    put: usize,
    taken: usize,
}

impl Port {
    fn is_full(&self) -> bool {
        self.put - self.taken == RING
    }

    /// Moves what the UART received into the ring, as long as there is room. Returns whether a key
    /// came. Ctrl-C drops what was typed before it, and is in the ring when the running command
    /// hears of it.
    fn receive(&mut self) -> bool {
        let before = self.put;
        while !self.is_full()
            && let Ok(byte) = self.uart.try_receive_byte()
        {
            if byte == CTRL_C {
                self.taken = self.put;
                CONSOLE.request();
            }
            self.keys[self.put % RING] = byte;
            self.put += 1;
        }
        self.put != before
    }

    /// The next key. With the room that it leaves a full ring takes what waits in the UART: for
    /// that no interrupt comes.
    fn take(&mut self) -> Option<u8> {
        if self.taken == self.put {
            return None;
        }
        let (key, was_full) = (self.keys[self.taken % RING], self.is_full());
        self.taken += 1;
        if was_full {
            self.receive();
        }
        Some(key)
    }
}

const fn com1() -> Uart16550<PioBackend> {
    // SAFETY: COM1's eight registers exist on every PC; using them has no effect on memory.
    match unsafe { Uart16550::new_port(COM1) } {
        Ok(uart) => uart,
        Err(_) => panic!("COM1 is a valid port"),
    }
}

static PORT: IrqSpinLock<Port> = IrqSpinLock::new(
    Rank::Serial,
    Port {
        uart: com1(),
        keys: [0; RING],
        put: 0,
        taken: 0,
    },
);
static LINE: SpinLock<()> = SpinLock::new(Rank::Console, ());
static KEYS: WaitQueue = WaitQueue::new();
static BY_INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Programs the UART (8-N-1, FIFO on) before locks work: only [`emergency`] prints until [`init`].
/// Without a UART, output goes nowhere.
pub(crate) fn early_init() {
    // An absent port is not worth dying for: nothing could be said about it anyway.
    let _ = com1().init(Config::default());
}

/// The same for [`print`], once this CPU has its per-CPU data.
pub(crate) fn init() {
    let _ = PORT.lock().uart.init(Config::default());
}

/// From here on input arrives by interrupt. Without one [`wait_key`] polls.
pub(crate) fn enable_interrupts() {
    match arch::irq::enable_isa(COM1_LINE, |_| poll(), 0) {
        Ok(()) => {
            PORT.lock().uart.enable_interrupts(IER::DATA_READY);
            BY_INTERRUPT.store(true, Ordering::Relaxed);
            // What arrived before raises no edge any more.
            poll();
        }
        Err(why) => crate::println!("serial: no receive interrupt, polling: {why}"),
    }
}

/// Fetches received bytes; the interrupt handler, and the fall-back without one.
fn poll() {
    // The port's lock is dropped before anybody is woken: wait queues rank outside of it.
    let any = PORT.lock().receive();
    if any {
        KEYS.wake_all();
    }
}

/// The next byte of input, if there is one.
pub(crate) fn try_key() -> Option<u8> {
    if !BY_INTERRUPT.load(Ordering::Relaxed) {
        poll();
    }
    PORT.lock().take()
}

/// The next byte of input; sleeps until there is one.
pub(crate) fn wait_key() -> u8 {
    let mut key = None;
    let mut there = || {
        key = try_key();
        key.is_some()
    };
    if BY_INTERRUPT.load(Ordering::Relaxed) {
        KEYS.wait_until(there);
    } else {
        while !there() {
            threads().park_timeout(POLL_NS);
        }
    }
    key.unwrap_or_default()
}

/// Sends text to the port in chunks, line feeds as CR LF.
struct Chunks;

impl Write for Chunks {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for chunk in s.as_bytes().chunks(CHUNK) {
            send(&mut PORT.lock().uart, chunk);
        }
        Ok(())
    }
}

fn send(uart: &mut Uart16550<PioBackend>, bytes: &[u8]) {
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        match line {
            [text @ .., b'\n'] => {
                uart.send_bytes_exact(text);
                uart.send_bytes_exact(b"\r\n");
            }
            text => uart.send_bytes_exact(text),
        }
    }
}

/// Prints one piece of text that no other CPU's output interrupts.
pub(crate) fn print(args: fmt::Arguments<'_>) {
    let _line = (!irq::in_handler()).then(|| LINE.lock());
    // `Chunks` never fails.
    let _ = Chunks.write_fmt(args);
}

/// Prints without any lock: for the panic path.
pub(crate) fn emergency(args: fmt::Arguments<'_>) {
    struct Direct(Uart16550<PioBackend>);
    impl Write for Direct {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            send(&mut self.0, s.as_bytes());
            Ok(())
        }
    }
    let _ = Direct(com1()).write_fmt(args);
}

/// The console as the laboratory's sink.
pub(crate) struct Console;

impl lab::out::Out for Console {
    fn put(&self, text: &str) {
        print(format_args!("{text}"));
    }
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {
        $crate::serial::print(format_args!("{}\n", format_args!($($arg)*)))
    };
}
