//! What determines how fast a core is and how soon it wakes: governor, idle states, clock source, mitigations.

use std::collections::BTreeMap;

use super::cpus::Cpus;
use super::finding::{Finding, Severity};
use super::host::{Host, Unreadable};
use super::plan::Plan;

const CPU: &str = "/sys/devices/system/cpu";

pub(crate) fn check(host: &Host, plan: &Plan) -> Vec<Finding> {
    vec![governor(host, plan), idle(host, plan), clock(host), mitigations(host)]
}

fn tune(plan: &Plan) -> String {
    format!("tuning/tune apply cpu --cores {} --profile {} --yes", plan.places(), plan.profile.name)
}

fn governor(host: &Host, plan: &Plan) -> Finding {
    let name = "frequency governor";
    let mut by_word: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for core in plan.places().iter() {
        match host.text(&format!("{CPU}/cpu{core}/cpufreq/scaling_governor")) {
            Ok(word) => by_word.entry(word).or_default().push(core),
            Err(Unreadable::Denied) => return Finding::unknown(name, "scaling_governor"),
            Err(Unreadable::Absent) => {}
        }
    }
    let words: Vec<String> =
        by_word.iter().map(|(word, cores)| format!("{word} on {}", cores.iter().copied().collect::<Cpus>())).collect();
    if words.is_empty() {
        return Finding::ok(name, "set by the firmware or by the hypervisor");
    }
    let wanted = plan.profile.governor.as_deref();
    let severity = match wanted {
        Some(wanted) if by_word.keys().any(|word| word != wanted) => Severity::Warn,
        _ => Severity::Ok,
    };
    Finding::new(severity, name, words.join(", "))
        .expected(wanted.unwrap_or("any"))
        .why("A core that was idle starts at a low frequency and needs milliseconds to speed up; the cores of this server are idle between messages.")
        .cost("power, also while idle")
        .fix(tune(plan))
}

/// The time to leave the deepest state that is not disabled.
fn idle(host: &Host, plan: &Plan) -> Finding {
    let name = "idle states";
    let mut deepest: Option<(u64, String, usize)> = None;
    for core in plan.places().iter() {
        let folder = format!("{CPU}/cpu{core}/cpuidle");
        for state in host.names(&folder).unwrap_or_default() {
            let number = |file: &str| host.number(&format!("{folder}/{state}/{file}"));
            let (Ok(latency), disabled) = (number("latency"), number("disable").unwrap_or(0)) else { continue };
            let label = host.text(&format!("{folder}/{state}/name")).unwrap_or(state.clone());
            if disabled == 0 && deepest.as_ref().is_none_or(|(most, ..)| latency > *most) {
                deepest = Some((latency, label, core));
            }
        }
    }
    let Some((latency, label, core)) = deepest else {
        return Finding::ok(name, "set by the firmware or by the hypervisor");
    };
    let most = plan.profile.cstate_exit_us_max;
    let severity = if most > 0 && latency > most { Severity::Warn } else { Severity::Ok };
    Finding::new(severity, name, format!("up to {label}, {latency} µs to wake (core {core})"))
        .expected(if most > 0 { format!("at most {most} µs to wake") } else { "any".into() })
        .why("The first message after a pause waits until the core is awake.")
        .cost("power and heat, also while idle, and less turbo for other cores")
        .fix(tune(plan))
}

fn clock(host: &Host) -> Finding {
    let (name, place) = ("clock source", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let Ok(source) = host.text(place) else { return Finding::unknown(name, place) };
    // These are read in user space (vDSO); the others need a system call and slow hardware.
    let fast = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
    let severity = if fast.contains(&source.as_str()) { Severity::Ok } else { Severity::Warn };
    Finding::new(severity, name, source)
        .expected("tsc, or the one of the hypervisor")
        .why("The server reads the clock every turn of the event loop. With hpet or acpi_pm this is a system call and a microsecond of waiting for the chip.")
        .cost("nothing if the TSC is stable; dmesg shows why the kernel rejected it")
        .fix("cat …/available_clocksource; echo tsc > …/current_clocksource; permanently: clocksource=tsc tsc=reliable on the kernel command line")
}

fn mitigations(host: &Host) -> Finding {
    let (name, folder) = ("mitigations", "/sys/devices/system/cpu/vulnerabilities");
    let Ok(files) = host.names(folder) else { return Finding::unknown(name, folder) };
    let (mut on, mut open) = (Vec::new(), Vec::new());
    for file in files {
        match host.text(&format!("{folder}/{file}")).unwrap_or_default() {
            text if text.starts_with("Mitigation") => on.push(file),
            text if text.starts_with("Vulnerable") => open.push(file),
            _ => {}
        }
    }
    let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(" ") };
    let severity = if on.is_empty() { Severity::Ok } else { Severity::Note };
    Finding::new(severity, name, format!("enabled for {}; vulnerable to {}", list(&on), list(&open)))
        .why("Each costs time on every entry to the kernel, and a server with small messages enters it once per write.")
        .cost("without them, any program on this host may read the memory of others")
        .fix("keep them, unless only this server runs on this hardware: then mitigations=off on the kernel command line; measure before and after")
}
