//! The report as text.
//!
//! Owns which figures are shown to people, in which words and order; the page shows the same ones.
//! Never computes: the [`Report`] did.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::figures::{bytes, thousands, time};
use super::report::{LatencyRow, Report, Results, ResumeFacts, RunFacts, ServerFacts, Verdict};

/// A figure with its name and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it is of.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// It, with its unit.
    pub value: String,
    /// What else there is to say.
    pub remark: String,
}

/// The whole report as text, ended by the verdict.
pub fn render(report: &Report) -> String {
    let mut out = format!("{}\n{}\n", title(&report.run), subtitle(report));
    if let Some(results) = &report.results {
        out += "\n";
        out += &latency_table(&results.latencies);
        out += "\n";
        out += &figure_table(&figures(report, results));
    }
    out += "\n";
    out + &verdict(report)
}

/// What was run, in one line.
pub fn title(run: &RunFacts) -> String {
    let rooms = match (run.rooms, run.connections) {
        (0, connections) => format!("{} connections", thousands(connections.into())),
        (rooms, connections) => format!(
            "{} connections, {} {}",
            thousands(connections.into()),
            thousands(rooms.into()),
            if rooms == 1 { "room" } else { "rooms" }
        ),
    };
    let traffic = match run.mode {
        "open" => format!(
            ", {} messages/s ({}), {}-byte bodies",
            thousands(run.rate_per_s.unwrap_or(0.0) as u64),
            run.arrivals.unwrap_or("steady"),
            run.body_bytes
        ),
        "closed" => format!(
            ", {} in flight per publisher (closed loop), {}-byte bodies",
            run.in_flight.unwrap_or(0),
            run.body_bytes
        ),
        _ => String::new(),
    };
    format!("corebeat bench {} · {} · {rooms}{traffic}", run.scenario, run.dialect)
}

/// Against what and where, in one line.
pub fn subtitle(report: &Report) -> String {
    let Report { run, machine, generator, .. } = report;
    let threads = if generator.threads == 1 { "thread" } else { "threads" };
    format!(
        "{} · {} generator {threads}{} · {} × {} · Linux {}",
        run.server,
        generator.threads,
        if generator.spin { " (spinning)" } else { "" },
        machine.processors,
        machine.processor,
        machine.kernel
    )
}

/// How it ended, in words.
pub fn verdict(report: &Report) -> String {
    let mut out = match report.verdict {
        Verdict::Passed => "passed: every delivery was checked, nothing was wrong\n".to_string(),
        Verdict::Failed => "FAILED: the server broke the contract\n".to_string(),
        Verdict::Refused => "REFUSED: the generator was the bottleneck\n".to_string(),
    };
    for violation in &report.violations {
        let count = thousands(violation.count);
        out += &format!("  {count:>10}  {:<11} {}\n", violation.kind, violation.meaning);
    }
    for example in &report.examples {
        out += &format!("              e.g. {example}\n");
    }
    for refusal in &report.refusals {
        out += &format!("  {refusal}\n");
    }
    out
}

/// The heads of the columns of latencies.
pub const LATENCY_HEADS: [&str; 8] =
    ["latency", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// One row of the table of latencies.
pub fn latency_cells(row: &LatencyRow) -> [String; 8] {
    let us = |us: f64| time(us * 1e3);
    [
        row.kind.into(),
        thousands(row.count),
        us(row.p50_us),
        us(row.p90_us),
        us(row.p99_us),
        us(row.p999_us),
        us(row.p9999_us),
        us(row.max_us),
    ]
}

fn latency_table(rows: &[LatencyRow]) -> String {
    let mut table = plain();
    table.set_header(LATENCY_HEADS);
    table.add_rows(rows.iter().map(latency_cells));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut out = table.trim_fmt() + "\n";
    for row in rows {
        out += &format!("   {}: {}\n", row.kind, row.meaning);
    }
    out
}

fn figure_table(figures: &[Figure]) -> String {
    let mut table = plain();
    let mut last = "";
    for figure in figures {
        let group = if figure.group == last { "" } else { figure.group };
        last = figure.group;
        table.add_row([group, figure.name, &figure.value, &figure.remark]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt() + "\n"
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// Every figure that there is to show but latencies.
pub fn figures(report: &Report, results: &Results) -> Vec<Figure> {
    let mut list = List(Vec::new());
    traffic(&mut list, results);
    comings(&mut list, results);
    if let Some(server) = &results.server {
        server_figures(&mut list, server);
    }
    if let Some(kernel) = &results.kernel {
        let slab = kernel.slab_bytes_per_socket;
        list.some("kernel", "objects per socket", slab.map(bytes), || {
            format!("{} sockets, both ends of a local connection", thousands(kernel.sockets))
        });
        list.add("kernel", "buffers per socket", bytes(kernel.buffer_bytes_per_socket), "");
    }
    generator(&mut list, report);
    list.0
}

struct List(Vec<Figure>);

impl List {
    fn add(
        &mut self,
        group: &'static str,
        name: &'static str,
        value: String,
        remark: impl Into<String>,
    ) {
        self.0.push(Figure { group, name, value, remark: remark.into() });
    }

    fn some(
        &mut self,
        group: &'static str,
        name: &'static str,
        value: Option<String>,
        remark: impl FnOnce() -> String,
    ) {
        if let Some(value) = value {
            self.add(group, name, value, remark());
        }
    }
}

fn traffic(list: &mut List, results: &Results) {
    let facts = &results.traffic;
    if facts.deliveries > 0 {
        let remark = format!(
            "{} in {:.1} s; {:.2} for each read",
            thousands(facts.deliveries),
            results.measured_s,
            facts.deliveries_per_read
        );
        let per_s = thousands(facts.deliveries_per_s as u64);
        list.add("traffic", "deliveries per second", per_s, remark);
        let remark = format!("{:.2} for each write", facts.messages_per_write);
        let sent = thousands(facts.sent_per_s as u64);
        list.add("traffic", "messages sent per second", sent, remark);
        list.add("traffic", "bytes heard per second", bytes(facts.bytes_per_s), "");
    }
    if facts.due > 0 {
        // Rounded down: what is not all must not look like it.
        let ratio = match facts.came == facts.due {
            true => "100 %".into(),
            false => format!("{:.4} %", (facts.delivery_ratio * 1e6).floor() / 1e4),
        };
        let remark = format!("{} of {} due", thousands(facts.came), thousands(facts.due));
        list.add("traffic", "delivered", ratio, remark);
    }
    if facts.pings_answered > 0 {
        list.add("traffic", "pings answered", thousands(facts.pings_answered), "");
    }
}

fn comings(list: &mut List, results: &Results) {
    if let Some(storm) = &results.storm {
        let ms = |ms: f64| time(ms * 1e6);
        let remark = format!("{} dropped at once", thousands(storm.connections));
        list.add("storm", "all back in their rooms", ms(storm.all_back_ms), remark);
        let kept_up = match storm.kept_up {
            true => "as fast as it was asked: the server's own limit lies higher",
            false => "slower than it was asked: the server's own limit",
        };
        let accepts = thousands(storm.accepts_per_s as u64);
        list.add("storm", "accepted per second", accepts, kept_up);
        let asked = thousands(storm.asked_per_s as u64);
        list.add("storm", "asked for per second", asked, "as fast as the generator could");
        list.add("storm", "dropping took", ms(storm.drop_ms), "");
        if let Some(resume) = &storm.resume {
            resumptions(list, resume);
        }
    }
    if let Some(churn) = &results.churn {
        let per_s = format!("{:.1}", churn.connections_per_s);
        let remark = format!("{} came; {} in vain", thousands(churn.connections), churn.unfinished);
        list.add("churn", "connections per second", per_s, remark);
    }
    if let Some(slow) = &results.slow {
        let remark = "the server ended them or told them of gaps";
        let dealt = format!("{} of {}", slow.dealt_with, slow.members);
        list.add("slow", "slow readers dealt with", dealt, remark);
    }
    let per_s = thousands(results.ramp.connections_per_s as u64);
    let asked = thousands(results.ramp.asked_per_s as u64);
    let remark = format!("in {:.1} s; {asked} per second were asked for", results.ramp.seconds);
    list.add("ramp", "connections per second", per_s, remark);
}

fn resumptions(list: &mut List, resume: &ResumeFacts) {
    let ms = |ms: f64| time(ms * 1e6);
    let remark = format!(
        "{} messages missing; {} caught up with, {} came again",
        thousands(resume.missing),
        thousands(resume.replayed),
        thousands(resume.repeated)
    );
    list.add("resume", "sessions resumed", thousands(resume.resumed), remark);
    let remark = format!("half within {}, all within {}", ms(resume.p50_ms), ms(resume.max_ms));
    list.add("resume", "p99 until caught up", ms(resume.p99_ms), remark);
    let remark = match resume.unaccepted {
        0 => format!("the p99 above is {:.2} of it", resume.p99_by_accept_all),
        count => format!("{} were not accepted", thousands(count)),
    };
    list.add("resume", "accepting as many bare ones", ms(resume.accept_all_ms), remark);
}

fn server_figures(list: &mut List, server: &ServerFacts) {
    let group = "server";
    let us = |us: f64| time(us * 1e3);
    let remark = format!("{:.0} % of it in the kernel", server.system_share * 100.0);
    list.add(group, "processors used", format!("{:.3}", server.processors_used), remark);
    let each = server.us_per_delivery.map(us);
    list.some(group, "processor time per delivery", each, || "user and system".into());
    let idle = server.idle_us_per_connection_second.map(us);
    list.some(group, "idle processor time", idle, || "each connection, each second".into());
    let connect = server.us_per_connect.map(us);
    list.some(group, "processor time per connect", connect, String::new);
    let few = if server.bytes_per_connection.is_none() { "too few to tell; " } else { "" };
    let remark = format!(
        "{few}{} at rest, {} with all connections, {} at most",
        bytes(server.resident_at_rest_bytes as f64),
        bytes(server.resident_joined_bytes as f64),
        bytes(server.resident_peak_bytes as f64)
    );
    let many = server.bytes_per_connection.map(bytes);
    let value = many.unwrap_or_else(|| "-".into());
    list.add(group, "memory per connection", value, remark);
    let switches = server.voluntary_switches_per_s.zip(server.involuntary_switches_per_s);
    let value = switches.map(|(waited, _)| thousands(waited as u64));
    list.some(group, "context switches per second", value, || {
        let pushed = switches.map_or(0.0, |(_, pushed)| pushed);
        format!("{} involuntary; {} threads", thousands(pushed as u64), server.threads)
    });
}

fn generator(list: &mut List, report: &Report) {
    let group = "generator";
    let facts = &report.generator;
    let us = |us: f64| time(us * 1e3);
    let remark = "of the busiest thread's time";
    list.add(group, "busy", format!("{:.0} %", facts.busy * 100.0), remark);
    if let Some(allowed) = facts.lag_allowed_us {
        let remark = format!("turns {}; {} allowed", us(facts.turn_p99_us), us(allowed));
        list.add(group, "lag, p99", us(facts.lag_p99_us), remark);
    }
    let many = facts.bytes_per_connection.map(bytes);
    let remark = many.map(|own| format!("{own} of its own per connection")).unwrap_or_default();
    list.add(group, "processors used", format!("{:.3}", facts.processors_used), remark);
    let waited = facts.waited.map(|waited| format!("{:.1} %", waited * 100.0));
    list.some(group, "waited for a processor", waited, || "of the measured time".into());
}
