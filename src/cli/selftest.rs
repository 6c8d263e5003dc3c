//! `scenario selftest`: what this machine can measure. What it found is kept for `plan` and `run`.

use std::path::PathBuf;

use super::args::SelfTestArgs;
use super::console::Console;
use super::exit::Exit;
use crate::load::Capacity;
use crate::plan::Plan;
use crate::plan::demand::{Demand, STREAM_SPEED, demand};

#[cfg(not(target_os = "linux"))]
pub(super) fn selftest(_: &SelfTestArgs, _: &Console) -> anyhow::Result<Exit> {
    anyhow::bail!("the self-test needs Linux: its instants are the kernel's")
}

#[cfg(target_os = "linux")]
pub(super) fn selftest(args: &SelfTestArgs, console: &Console) -> anyhow::Result<Exit> {
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use anyhow::Context;

    // Said before the measuring, not after it.
    let unwritable = |path: &Path| format!("cannot write `{}`", path.display());
    let mut file = match &args.json {
        Some(path) if path.as_os_str() != "-" => {
            Some((path, File::create(path).with_context(|| unwritable(path))?))
        }
        Some(_) | None => None,
    };
    crate::run::raise_file_limit();
    let step = Duration::from_millis(if args.quick { 1000 } else { 4000 });
    let now = jiff::Timestamp::now().to_string();
    let told = crate::selftest::run(step, now, |line| console.talk(line))?;
    let json = serde_json::to_string_pretty(&told)?;
    if let Some((path, file)) = &mut file {
        file.write_all(json.as_bytes())
            .with_context(|| unwritable(path))?;
    }
    match &args.json {
        Some(path) if path.as_os_str() == "-" => console.data(&json),
        Some(_) | None => console.data(&table(&told)),
    }
    if let Some(path) = kept_at() {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if folder.and_then(|()| std::fs::write(&path, &json)).is_err() {
            console.talk(&format!(
                "cannot keep it in `{}`: `plan` will not know of it",
                path.display()
            ));
        }
    }
    Ok(Exit::Passed)
}

#[cfg(target_os = "linux")]
fn table(told: &crate::selftest::SelfTest) -> String {
    use std::fmt::Write;

    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    line(format_args!(
        "streams  events/s  TTFT error p50  TTFT error p99  read lag p99  shared reads  of a core  CPU/event"
    ));
    for step in &told.streams {
        line(format_args!(
            "{:>7}  {:>8.0}  {:>11.3} ms  {:>11.3} ms  {:>9.3} ms  {:>10.2} %  {:>7.0} %  {:>6.1} µs",
            step.streams,
            step.events_per_second,
            step.ttft_error_p50_ms,
            step.ttft_error_p99_ms,
            step.read_lag_p99_ms,
            step.shared * 100.0,
            step.cpu * 100.0,
            step.cpu_per_event_us,
        ));
    }
    line(format_args!(
        "\n sends/s  achieved   lag p50    lag p99  of a core"
    ));
    for step in &told.sends {
        line(format_args!(
            "{:>8.0}  {:>8.0}  {:>5.3} ms  {:>6.3} ms  {:>7.0} %",
            step.rate,
            step.achieved,
            step.lag_p50_ms,
            step.lag_p99_ms,
            step.cpu * 100.0,
        ));
    }
    line(format_args!(""));
    for (bound, reach) in &told.exact {
        match reach {
            Some(reach) => line(format_args!(
                "TTFT is exact to {bound} ms at p99 up to {}{} streams, {:.0} events/s",
                if reach.at_least { "at least " } else { "" },
                reach.streams,
                reach.events_per_second,
            )),
            None => line(format_args!(
                "TTFT is not exact to {bound} ms at p99, not even with the fewest streams"
            )),
        }
    }
    match told.sends_per_second {
        Some(rate) => line(format_args!(
            "sends are on time to 1 ms at p99 up to {rate:.0} a second"
        )),
        None => line(format_args!(
            "sends are not on time to 1 ms at p99, not even at the lowest rate"
        )),
    }
    line(format_args!(
        "an event costs {:.2} times what only receiving it costs; a load thread takes about {:.0} events/s",
        told.floor_ratio, told.capacity.events_per_second
    ));
    text
}

/// Where the self-test of this machine is kept.
fn kept_at() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("scenario").join("selftest.json"))
}

#[cfg(target_os = "linux")]
fn kept() -> Option<crate::selftest::SelfTest> {
    let text = std::fs::read_to_string(kept_at()?).ok()?;
    // A file of another version says nothing.
    serde_json::from_str(&text).ok()
}

/// What a load thread of this machine can take: as it was measured here, or else what is usual.
pub(super) fn capacity() -> Capacity {
    measured_capacity().unwrap_or_default()
}

fn measured_capacity() -> Option<Capacity> {
    #[cfg(target_os = "linux")]
    return kept().map(|told| told.capacity);
    #[cfg(not(target_os = "linux"))]
    None
}

/// Warns of each load that asks for more than this machine can measure.
pub(super) fn warnings(plan: &Plan) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let measured = measured_capacity();
    let capacity = measured.unwrap_or_default();
    let mut loads: Vec<(&str, Demand)> = Vec::new();
    for cell in &plan.cells {
        if loads.iter().all(|(load, _)| *load != cell.load) {
            loads.push((&cell.load, demand(cell)));
        }
    }
    let told = |(load, demand): &(&str, Demand)| {
        let workers = plan
            .limits
            .workers
            .unwrap_or_else(|| capacity.workers(demand, cores));
        too_much(load, demand, capacity, measured.is_some(), workers)
    };
    loads.iter().filter_map(told).collect()
}

fn too_much(
    load: &str,
    demand: &Demand,
    capacity: Capacity,
    is_measured: bool,
    workers: u32,
) -> Option<String> {
    if capacity.share(demand) <= f64::from(workers) {
        return None;
    }
    let asked = match demand.streams {
        Some(streams) => format!("{streams} streams, about {STREAM_SPEED:.0} events/s each"),
        None => format!(
            "{:.0} sends/s, {:.0} events/s",
            demand.sends_per_second, demand.events_per_second
        ),
    };
    let whose = if is_measured {
        "by `scenario selftest`"
    } else {
        "as is usual; `scenario selftest` measures it"
    };
    Some(format!(
        "warning: load `{load}`, stage `{}` asks for more than this machine can measure: {asked}; {workers} load {} {:.0} events/s and {:.0} sends/s ({whose})\n  help: run it from a machine with more cores, or ask for less",
        demand.stage,
        if workers == 1 {
            "thread takes"
        } else {
            "threads take"
        },
        capacity.events_per_second * f64::from(workers),
        capacity.sends_per_second * f64::from(workers),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_beyond_the_machine_is_told_with_both_numbers() {
        let capacity = Capacity {
            events_per_second: 80_000.0,
            sends_per_second: 10_000.0,
        };
        let demand = Demand {
            stage: "c4000".to_owned(),
            streams: Some(4000),
            events_per_second: 200_000.0,
            sends_per_second: 0.0,
        };
        assert_eq!(
            too_much("sweep", &demand, capacity, true, 2).as_deref(),
            Some(
                "warning: load `sweep`, stage `c4000` asks for more than this machine can measure: 4000 streams, about 50 events/s each; 2 load threads take 160000 events/s and 20000 sends/s (by `scenario selftest`)\n  help: run it from a machine with more cores, or ask for less"
            )
        );
        let usual = too_much("sweep", &demand, capacity, false, 2);
        assert!(
            usual.is_some_and(|text| text.contains("as is usual; `scenario selftest` measures it"))
        );
        assert_eq!(too_much("sweep", &demand, capacity, true, 3), None);
    }
}
