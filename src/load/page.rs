//! The report as one HTML page.
//!
//! Owns its looks, light and dark. One file that needs no other: style and charts are inside, and
//! there is no script. Never computes: the [`Report`] did.

use super::chart::{self, Line};
use super::figures::{thousands, time};
use super::report::{Report, Results, Verdict};
use super::table;

/// What every page looks like, light and dark; charts use its colours by name.
pub const STYLE: &str = "
:root { --paper: #fcfcfd; --card: #ffffff; --ink: #1d2430; --soft: #5b6676; --grid: #dfe3ea;
  --good: #17784b; --bad: #b3261e; --line0: #2f6fdb; --line1: #d9622b; --line2: #1f8a70;
  --line3: #8b4fc7; --line4: #b58a00; --line5: #c43d6b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171d; --card: #1b2028; --ink: #e6e9ef;
  --soft: #9aa5b5; --grid: #333b48; --good: #5fd39a; --bad: #ff8a80; --line0: #7aa8ff;
  --line1: #ff9f68; --line2: #5ad1b0; --line3: #c79bff; --line4: #e6c34d; --line5: #ff8fb3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; }
h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 0 0 8px; } .soft { color: var(--soft); }
.verdict { display: inline-block; margin: 14px 0 0; padding: 3px 12px; border-radius: 99px;
  border: 1px solid currentColor; font-weight: 600; }
.passed { color: var(--good); } .failed, .refused { color: var(--bad); }
figure { margin: 0; background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  padding: 6px; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 640px; height: auto; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 20px; position: sticky;
  left: 0; padding: 8px 14px 0; color: var(--soft); font-size: 14px; }
figcaption i { display: inline-block; width: 18px; height: 3px; margin-right: 7px;
  vertical-align: middle; } td:nth-child(2) { white-space: nowrap; }
.scroll { margin: 12px 0; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; } th { color: var(--soft); font-weight: 600; }
.number { text-align: right; white-space: nowrap; } ul { margin: 8px 0 0; padding-left: 22px; }
footer { margin-top: 40px; color: var(--soft); font-size: 14px; }
@media (max-width: 700px) { main { padding: 22px 14px 40px; }
  .figures tr { display: grid; grid-template-columns: 1fr auto; border-bottom: 1px solid
    var(--grid); padding: 6px 0; } .figures th, .figures td { border: 0; padding: 0; }
  .figures th, .figures td:last-child { grid-column: 1 / -1; } .figures th:empty,
  .figures td:empty { display: none; } .figures td { white-space: normal; } }
";

/// The whole page.
///
/// # Errors
/// Where a chart could not be drawn.
pub fn render(report: &Report) -> Result<String, String> {
    let title = table::title(&report.run);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        title = escaped(&title)
    );
    out += &head(report, &title);
    if let Some(results) = &report.results {
        out += &latencies(results)?;
        out += &course(results)?;
        out += &figures(report, results);
    }
    out += &format!(
        "<footer>corebeat {} · seed {}. Latency counts from the instant at which something was \
         planned, not from when it was done.</footer>\n</main>\n</body>\n</html>\n",
        report.version, report.run.seed
    );
    Ok(out)
}

fn head(report: &Report, title: &str) -> String {
    let (class, words) = match report.verdict {
        Verdict::Passed => ("passed", "passed: every delivery was checked, nothing was wrong"),
        Verdict::Failed => ("failed", "failed: the server broke the contract"),
        Verdict::Refused => ("refused", "refused: the generator was the bottleneck"),
    };
    let (name, rest) = title.split_once(" · ").unwrap_or((title, ""));
    let mut out = format!(
        "<h1>{}</h1>\n<p>{}</p>\n<p class=\"soft\">{}</p>\n\
         <p class=\"verdict {class}\">{words}</p>\n",
        escaped(name),
        escaped(rest),
        escaped(&table::subtitle(report))
    );
    let violations = report.violations.iter().map(|violation| {
        format!("{} {}: {}", thousands(violation.count), violation.kind, violation.meaning)
    });
    let wrong: Vec<String> =
        violations.chain(report.examples.iter().cloned()).chain(report.refusals.clone()).collect();
    if !wrong.is_empty() {
        let items: String =
            wrong.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
        out += &format!("<ul>{items}</ul>\n");
    }
    out
}

fn latencies(results: &Results) -> Result<String, String> {
    if results.latencies.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from("<h2>Latency</h2>\n");
    // How connections came in during the ramp is beside the point where messages flow.
    let flows = results.latencies.iter().any(|row| row.kind != "connect");
    let lines: Vec<Line> = results
        .latencies
        .iter()
        .filter(|row| !flows || row.kind != "connect" || results.storm.is_some())
        .map(|row| Line { name: row.kind.into(), points: row.curve.clone() })
        .collect();
    let svg = chart::percentiles(&lines, |us| round_time(us * 1e3))?;
    out +=
        &format!("<figure>{}{svg}</figure>\n<div class=\"scroll\"><table>\n<tr>", legend(&lines));
    for (nth, head) in table::LATENCY_HEADS.into_iter().enumerate() {
        let class = if nth == 0 { "" } else { " class=\"number\"" };
        out += &format!("<th{class}>{head}</th>");
    }
    out += "</tr>\n";
    for row in &results.latencies {
        out += "<tr>";
        for (nth, cell) in table::latency_cells(row).iter().enumerate() {
            let class = if nth == 0 { "" } else { " class=\"number\"" };
            out += &format!("<td{class}>{}</td>", escaped(cell));
        }
        out += "</tr>\n";
    }
    out += "</table></div>\n";
    for row in &results.latencies {
        out += &format!("<p class=\"soft\">{}: {}</p>\n", row.kind, escaped(row.meaning));
    }
    Ok(out)
}

/// The names of the lines, beside their colours.
fn legend(lines: &[Line]) -> String {
    let name = |(nth, line): (usize, &Line)| {
        let name = escaped(&line.name);
        format!("<span><i style=\"background:var(--line{nth})\"></i>{name}</span>")
    };
    let names: String = lines.iter().enumerate().map(name).collect();
    format!("<figcaption>{names}</figcaption>")
}

fn course(results: &Results) -> Result<String, String> {
    let points = |value: &dyn Fn(&super::report::CoursePoint) -> Option<f64>| -> Vec<(f64, f64)> {
        results.course.iter().filter_map(|point| Some((point.at_s, value(point)?))).collect()
    };
    let line = |name: &str, points| [Line { name: name.into(), points }];
    let mut out = String::new();
    if results.traffic.deliveries > 0 {
        let rates = line("deliveries", points(&|point| Some(point.deliveries_per_s)));
        let svg = chart::over_time(&rates, |rate| thousands(rate as u64))?;
        out += &format!("<h2>Deliveries per second, over time</h2>\n<figure>{svg}</figure>\n");
    } else {
        let open = line("open", points(&|point| Some(point.open as f64)));
        let svg = chart::over_time(&open, |count| thousands(count as u64))?;
        out += &format!("<h2>Open connections, over time</h2>\n<figure>{svg}</figure>\n");
    }
    let resident = points(&|point| point.resident_bytes.map(|bytes| bytes as f64 / MIB));
    if !resident.is_empty() {
        let svg = chart::over_time(&line("resident", resident), mebibytes)?;
        out += &format!("<h2>Server's resident memory, over time</h2>\n<figure>{svg}</figure>\n");
    }
    Ok(out)
}

fn figures(report: &Report, results: &Results) -> String {
    let mut out =
        String::from("<h2>Figures</h2>\n<div class=\"scroll\"><table class=\"figures\">\n");
    let mut last = "";
    for figure in table::figures(report, results) {
        let group = if figure.group == last { "" } else { figure.group };
        last = figure.group;
        out += &format!(
            "<tr><th>{group}</th><td>{}</td><td class=\"number\">{}</td>\
             <td class=\"soft\">{}</td></tr>\n",
            escaped(figure.name),
            escaped(&figure.value),
            escaped(&figure.remark)
        );
    }
    out + "</table></div>\n"
}

const MIB: f64 = 1_048_576.0;

fn mebibytes(count: f64) -> String {
    match count {
        count if count < 10.0 => format!("{} MiB", (count * 10.0).round() / 10.0),
        count => format!("{} MiB", thousands(count.round() as u64)),
    }
}

/// A power of ten of nanoseconds, as an axis shows it.
pub fn round_time(ns: f64) -> String {
    match ns {
        ns if ns < 999.0 => format!("{ns:.0} ns"),
        ns if ns < 999e3 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 999e6 => format!("{:.0} ms", ns / 1e6),
        ns => time(ns).replace(".00", ""),
    }
}

/// Text that cannot be taken for markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_is_called_cannot_change_the_page() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

    #[test]
    fn axes_have_round_times() {
        assert_eq!(round_time(10_000.0), "10 µs");
        assert_eq!(round_time(1_000_000.0), "1 ms");
        assert_eq!(round_time(1e10), "10 s");
    }
}
