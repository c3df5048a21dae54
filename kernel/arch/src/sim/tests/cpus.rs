//! Interrupts between CPUs, and threads.

use super::*;

#[test]
fn ipis_reach_parked_running_and_idle_cpus_and_interrupts_off_holds_them_back() {
    alone(|| {
        let gate = Arc::new(AtomicU32::new(0));
        let cpu_of = Arc::new(AtomicUsize::new(usize::MAX));
        let (g, c) = (gate.clone(), cpu_of.clone());
        let t = thread(move || {
            c.store(cpu::id(), SeqCst);
            let off = irq::disable();
            g.store(1, SeqCst);
            // No polling place delivers while interrupts are off.
            while g.load(SeqCst) == 1 {
                irq::poll();
                std::thread::yield_now();
            }
            assert_eq!(TLB_IPIS[cpu::id()].load(SeqCst), 0);
            drop(off);
            assert_eq!(TLB_IPIS[cpu::id()].load(SeqCst), 1);
            g.store(3, SeqCst);
            // Parked from here on.
            while g.load(SeqCst) != 4 {
                ::sync::threads().park();
            }
        });
        until(|| gate.load(SeqCst) == 1);
        let target = cpu_of.load(SeqCst);
        TLB_IPIS[target].store(0, SeqCst);
        send_tlb_ipi(CpuMask::single(target));
        (0..50).for_each(|_| std::thread::yield_now());
        assert_eq!(TLB_IPIS[target].load(SeqCst), 0);
        gate.store(2, SeqCst);
        until(|| gate.load(SeqCst) == 3);
        send_tlb_ipi(CpuMask::single(target));
        wait_for(&|| TLB_IPIS[target].load(SeqCst) == 2);
        gate.store(4, SeqCst);
        ::sync::threads().unpark(t.task());
        t.join();
        // The CPU idles now, and still answers.
        send_tlb_ipi(CpuMask::single(target));
        wait_for(&|| TLB_IPIS[target].load(SeqCst) == 3);
    });
}

#[test]
fn function_calls_run_everywhere_before_call_on_returns() {
    static RAN: AtomicU32 = AtomicU32::new(0);
    static BAD: AtomicBool = AtomicBool::new(false);
    fn note(arg: usize) {
        BAD.fetch_or(irq::enabled() || arg != 5, SeqCst);
        RAN.fetch_or(1 << cpu::id(), SeqCst);
    }
    alone(|| {
        for _ in 0..20 {
            RAN.store(0, SeqCst);
            call_on(online(), note, 5);
            assert_eq!(RAN.load(SeqCst), online().bits());
        }
        assert!(!BAD.load(SeqCst));
    });
}

#[test]
fn two_cpus_that_call_each_other_serve_each_other() {
    fn nothing(_: usize) {}
    alone(|| {
        let threads: Vec<_> = (0..3)
            .map(|_| thread(|| (0..200).for_each(|_| call_on(online(), nothing, 0))))
            .collect();
        threads.into_iter().for_each(thread_api::JoinHandle::join);
    });
}

#[test]
fn threads_join_panic_and_are_refused_when_cpus_run_out() {
    alone(|| {
        let ran = Arc::new(AtomicBool::new(false));
        let r = ran.clone();
        let t = thread(move || r.store(true, SeqCst));
        t.join();
        assert!(ran.load(SeqCst));
        let go = Arc::new(AtomicBool::new(false));
        let q = Arc::new(WaitQueue::new());
        let mut all = Vec::new();
        loop {
            let (g, q) = (go.clone(), q.clone());
            let work = Box::new(move || q.wait_until(|| g.load(SeqCst)));
            match spawn(Spawn::default(), work) {
                Ok(t) => all.push(t),
                Err(e) => {
                    assert_eq!(e, thread_api::SpawnError::TooMany);
                    break;
                }
            }
        }
        assert!(all.len() >= 8);
        go.store(true, SeqCst);
        q.wake_all();
        all.into_iter().for_each(thread_api::JoinHandle::join);
    });
}

#[test]
#[should_panic(expected = "from inside")]
fn a_thread_s_panic_reaches_the_joiner() {
    alone(|| panic!("from inside"));
}

#[test]
fn adopted_words_are_per_thread() {
    alone(|| {
        adopt(3);
        thread(|| {
            assert_eq!(thread_api::adopted(), 0);
            adopt(9);
        })
        .join();
        assert_eq!(thread_api::adopted(), 3);
    });
}
