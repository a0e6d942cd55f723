//! The process's own use of the machine, by the names that every Prometheus dashboard knows.
//!
//! Read from `/proc/self` when scraped (proc(5)); where there is none, the metrics stay at 0. By
//! hand, because the collector that comes with the library brings two crates for six numbers.

use prometheus::{Counter, Gauge, Registry};

pub(super) struct Process {
    cpu: Counter,
    start: Gauge,
    resident: Gauge,
    memory: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help).expect("a constant that is valid");
            registry.register(Box::new(gauge.clone())).expect("no name is used twice");
            gauge
        };
        let cpu = Counter::new("process_cpu_seconds_total", "CPU time used, user and system.")
            .expect("a constant that is valid");
        registry.register(Box::new(cpu.clone())).expect("no name is used twice");
        Self {
            cpu,
            start: gauge("process_start_time_seconds", "When the process was started."),
            resident: gauge("process_resident_memory_bytes", "Memory in use."),
            memory: gauge("process_virtual_memory_bytes", "Address space in use."),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            max_files: gauge("process_max_fds", "File descriptors that may be open."),
            threads: gauge("process_threads", "Threads."),
        }
    }

    pub(super) fn read(&self) {
        if let Some(stat) = read("stat").as_deref().and_then(Stat::parse) {
            self.cpu.inc_by((stat.cpu_seconds - self.cpu.get()).max(0.0));
            self.memory.set(stat.memory_bytes);
            self.threads.set(stat.threads);
            if let Some(boot) = boot_time() {
                self.start.set(boot + stat.started_after_boot_seconds);
            }
        }
        // `stat` counts pages, whose size is another question; `status` has kibibytes.
        if let Some(kib) = read("status").as_deref().and_then(|text| first_number(text, "VmRSS:")) {
            self.resident.set(kib * 1024.0);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            self.open_files.set(entries.count().saturating_sub(1) as f64);
        }
        if let Some(limit) = read("limits").as_deref().and_then(max_files) {
            self.max_files.set(limit);
        }
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot_seconds: f64,
    memory_bytes: f64,
}

impl Stat {
    /// The second field is the program's name in parentheses and may hold anything, so fields are
    /// counted from the last one; the third field is then the first of the rest.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.rsplit_once(')')?.1;
        let fields: Vec<f64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot_seconds: field(22)? / TICKS_PER_SECOND,
            memory_bytes: field(23)?,
        })
    }
}

fn boot_time() -> Option<f64> {
    first_number(&std::fs::read_to_string("/proc/stat").ok()?, "btime ")
}

fn max_files(limits: &str) -> Option<f64> {
    first_number(limits, "Max open files")
}

/// The number that follows `key` at the start of a line.
fn first_number(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

/// `USER_HZ`: what the kernel shows to programs, 100 on every architecture that we build for,
/// whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let rest =
            "S 1 1 1 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 7 0 1000 4096 2 18446744073709551615";
        let stat = Stat::parse(&format!("42 (a) b) (c) {rest}")).expect("a line of stat");
        assert_eq!((stat.cpu_seconds, stat.threads), (4.0, 7.0));
        assert_eq!((stat.started_after_boot_seconds, stat.memory_bytes), (10.0, 4096.0));
        assert_eq!(Stat::parse("42 (cut"), None);
    }
}
