//! What this CPU can do, and its control registers, descriptor tables and per-CPU base.
//!
//! Locks: none. Each function sets up the CPU that calls it. Never sleeps.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use spin::Once;
use x86_64::VirtAddr as X86Addr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::GsBase;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::frame::current_root;
use super::paging::kernel_root;
use super::{MAX_X86_CPUS, stack};

/// CPU features that the kernel uses or reports.
#[derive(Clone, Copy)]
pub struct Features {
    /// No-execute pages.
    pub nx: bool,
    /// Global pages.
    pub pge: bool,
    /// No execution of user pages by the kernel.
    pub smep: bool,
    /// No access to user pages by the kernel outside of `stac`..`clac`.
    pub smap: bool,
    /// Pages of 1 GiB.
    pub gib_pages: bool,
    /// The local APIC has the x2APIC interface.
    pub x2apic: bool,
    /// The TSC runs at one rate for ever.
    pub invariant_tsc: bool,
    /// A hypervisor is there.
    pub hypervisor: bool,
}

/// What the boot CPU can do; the others are taken to be alike.
pub fn features() -> &'static Features {
    static FEATURES: Once<Features> = Once::new();
    FEATURES.call_once(|| {
        let max = __cpuid(0).eax;
        let one = __cpuid(1);
        let seven = if max >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let max_ext = __cpuid(0x8000_0000).eax;
        let ext = |leaf| {
            if max_ext >= leaf {
                __cpuid(leaf).edx
            } else {
                0
            }
        };
        Features {
            nx: ext(0x8000_0001) & 1 << 20 != 0,
            pge: one.edx & 1 << 13 != 0,
            smep: seven & 1 << 7 != 0,
            smap: seven & 1 << 20 != 0,
            gib_pages: ext(0x8000_0001) & 1 << 26 != 0,
            x2apic: one.ecx & 1 << 21 != 0,
            invariant_tsc: ext(0x8000_0007) & 1 << 8 != 0,
            hypervisor: one.ecx & 1 << 31 != 0,
        }
    })
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.nx, "nx"),
            (self.pge, "pge"),
            (self.smep, "smep"),
            (self.smap, "smap"),
            (self.gib_pages, "1GiB-pages"),
            (self.x2apic, "x2apic"),
            (self.invariant_tsc, "invariant-tsc"),
            (self.hypervisor, "hypervisor"),
        ];
        for (i, (_, name)) in names.iter().filter(|(has, _)| *has).enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Turns on what protects the kernel from itself: NX, write protection in ring 0, SMEP, SMAP.
/// Global pages are off from here to [`enable_global_pages`].
///
/// # Panics
/// Without NX: the kernel's page tables rely on it.
pub(super) fn init_control() {
    let has = features();
    assert!(
        has.nx,
        "this CPU has no NX bit; QEMU: -cpu max or -cpu host"
    );
    let mut cr4 = Cr4Flags::empty();
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, has.smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, has.smap);
    // SAFETY: each bit is supported, and forbids only what the kernel does not do.
    unsafe {
        Efer::update(|e| e.insert(EferFlags::NO_EXECUTE_ENABLE));
        Cr0::update(|c| c.insert(Cr0Flags::WRITE_PROTECT));
        Cr4::update(|c| {
            c.remove(Cr4Flags::PAGE_GLOBAL);
            c.insert(cr4);
        });
    }
}

/// Lets translations of the kernel outlive a change of the root, on this CPU. The change of the bit
/// drops every translation there is, global ones and those of the tables' upper levels included.
///
/// # Panics
/// On other page tables than the kernel's: a global translation of the firmware's or of the
/// trampoline's would never be dropped again.
pub(super) fn enable_global_pages() {
    assert!(
        current_root() == kernel_root() && !Cr4::read().contains(Cr4Flags::PAGE_GLOBAL),
        "global pages were turned on before the kernel's own page tables"
    );
    if features().pge {
        // SAFETY: the bit is supported, and all that is marked global is in every root.
        unsafe { Cr4::update(|c| c.insert(Cr4Flags::PAGE_GLOBAL)) };
    }
}

/// This CPU keeps global translations across a change of the root.
pub fn global_pages() -> bool {
    Cr4::read().contains(Cr4Flags::PAGE_GLOBAL)
}

struct Gdt {
    table: GlobalDescriptorTable,
    code: SegmentSelector,
    data: SegmentSelector,
    tss: SegmentSelector,
}

static TSS: [Once<TaskStateSegment>; MAX_X86_CPUS] = [const { Once::new() }; MAX_X86_CPUS];
static GDT: [Once<Gdt>; MAX_X86_CPUS] = [const { Once::new() }; MAX_X86_CPUS];

/// IST index of the double-fault stack.
pub(super) const IST_DOUBLE_FAULT: u16 = 0;
/// IST index of the NMI stack.
pub(super) const IST_NMI: u16 = 1;

/// Loads this CPU's own GDT and TSS. Its exception stacks must be mapped.
pub(super) fn init_segments(cpu: usize) {
    let tss = TSS[cpu].call_once(|| {
        let mut tss = TaskStateSegment::new();
        for ist in [IST_DOUBLE_FAULT, IST_NMI] {
            let top = stack::exception_stack_top(cpu, ist);
            tss.interrupt_stack_table[ist as usize] = X86Addr::new(top);
        }
        tss
    });
    let gdt = GDT[cpu].call_once(|| {
        let mut table = GlobalDescriptorTable::new();
        let code = table.append(Descriptor::kernel_code_segment());
        let data = table.append(Descriptor::kernel_data_segment());
        let tss = table.append(Descriptor::tss_segment(tss));
        Gdt {
            table,
            code,
            data,
            tss,
        }
    });
    gdt.table.load();
    // SAFETY: the selectors are of the table just loaded; data segments are unused in long mode.
    unsafe {
        CS::set_reg(gdt.code);
        SS::set_reg(gdt.data);
        DS::set_reg(gdt.data);
        ES::set_reg(gdt.data);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        load_tss(gdt.tss);
    }
}

/// Makes `sync::cpu` work on this CPU: GS points at its `CpuLocal`.
pub(super) fn init_local(cpu: usize) {
    let local = sync::cpu::local_ptr(cpu) as u64;
    GsBase::write(X86Addr::new(local));
}
