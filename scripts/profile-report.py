"""Writes the report of scripts/profile.sh to standard output, from what lies in its folder."""
import argparse, json, os, re
from collections import Counter

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("folder")
for name in ("subject", "scenario", "event", "frequency", "command", "bench", "program"):
    arguments.add_argument(f"--{name}", required=True)
given = arguments.parse_args()
data = os.path.join(given.folder, "data")


def read(name):
    path = os.path.join(data, name)
    return open(path).read() if os.path.exists(path) else ""


def table(headings, rows):
    print(f"| {' | '.join(headings)} |")
    print("| --- |" + " ---: |" * (len(headings) - 1))
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def share(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else ""


def results(name):
    text = read(name)
    return (json.loads(text).get("results") or {}) if text else {}


def operations(run):
    """What the load was made of: how many of what were done in the measured time."""
    if run.get("storm"):
        return "connect", run["storm"]["connections"]
    if given.scenario == "idle":
        open_at_end = max((point["open"] for point in run.get("course", [])), default=0)
        return "connection and second", open_at_end * run.get("measured_s", 0)
    return "delivery", run.get("traffic", {}).get("deliveries", 0)


def counters(name):
    """The event and count of each line of `perf stat -x,`."""
    found = []
    for line in read(name).splitlines():
        cells = line.split(",")
        if len(cells) > 2 and re.fullmatch(r"[\d.]+", cells[0]):
            found.append((cells[2], float(cells[0])))
    return found


def system_calls():
    """Kind -> (calls, calls in vain)."""
    calls, vain = Counter(), Counter()
    for event, count in counters("calls.csv"):
        kind = event.split(":")[-1]
        if kind.startswith("sys_enter_"):
            calls[kind.removeprefix("sys_enter_")] += count
        else:
            vain[kind.removeprefix("sys_exit_")] += count
    for line in read("strace.txt").splitlines():
        cells = line.split()
        if len(cells) >= 5 and cells[3].isdigit() and cells[-1] != "total":
            calls[cells[-1]] += int(cells[3])
            vain[cells[-1]] += int(cells[4]) if len(cells) == 6 else 0
    return {kind: (count, vain[kind]) for kind, count in calls.most_common() if count}


# Frames are separated by `;` and stand root first; the kernel's end with `_[k]`.
stacks = []
for line in read("stacks.folded").splitlines():
    stack, count = line.rsplit(" ", 1)
    stacks.append((stack.split(";"), int(count)))
samples = sum(count for _, count in stacks)

threads, kernel_of = Counter(), Counter()
own_self, inclusive, kernel_self = Counter(), Counter(), Counter()
unknown = 0
for (thread, *frames), count in stacks:
    threads[thread] += count
    in_kernel = bool(frames) and frames[-1].endswith("_[k]")
    kernel_of[thread] += count * in_kernel
    user = [frame for frame in frames if not frame.endswith("_[k]")]
    unknown += count * any(frame == "[unknown]" for frame in frames)
    for frame in set(user):
        inclusive[frame] += count
    if in_kernel:
        kernel_self[frames[-1].removesuffix("_[k]")] += count
    elif user:
        own_self[user[-1]] += count
kernel = sum(kernel_of.values())

run, counted = results("sampled.json"), results("counted.json")
unit, done = operations(run)
_, done_counted = operations(counted)
machine = json.loads(read("sampled.json") or "{}").get("machine", {})
server = run.get("server") or {}

print(f"# Profile: {given.subject} under {given.scenario}\n")
print(f"- Machine: {machine.get('processors')} processors, {machine.get('processor')}, "
      f"Linux {machine.get('kernel')}")
print(f"- Command: `{given.command.strip()}`")
print(f"- Load: `{given.bench}`")
print(f"- Sampled: {given.event} at {given.frequency} Hz, {samples:,} samples in "
      f"{run.get('measured_s', 0):.1f} s of measured time")
if given.event == "cpu-clock":
    print("- This machine counts no cycles. `cpu-clock` is a timer: code that runs with interrupts "
          "off is charged to where they come on again.")
print("\n![flame graph](flame.svg)\n")

print("## What it cost\n")
rows = [(event, f"{count:,.0f}", f"{count / done:,.3f}" if done else "")
        for event, count in counters("stat.csv")]
for kind in ("voluntary", "involuntary"):
    rate = server.get(f"{kind}_switches_per_s")
    if rate is not None and given.subject != "bench":
        total = rate * run["measured_s"]
        rows.append((f"context switches, {kind}: {rate:,.0f} a second", f"{total:,.0f}",
                     f"{total / done:,.4f}" if done else ""))
table(("counter", f"in {run.get('measured_s', 0):.1f} s", f"per {unit}"), rows)
print(f"`perf stat`, of {done:,.0f} times one {unit}. task-clock is processor time in "
      "milliseconds; context switches by kind are the load generator's sample of the server.\n")

calls = system_calls()
if calls:
    print("## System calls\n")
    total = sum(count for count, _ in calls.values())
    vain_total = sum(vain for _, vain in calls.values())
    rows = [(kind, f"{count:,.0f}", f"{count / done_counted:.4f}" if done_counted else "",
             f"{vain:,.0f}" if vain else "") for kind, (count, vain) in calls.items()]
    rows.append(("all", f"{total:,.0f}", f"{total / done_counted:.4f}" if done_counted else "",
                 f"{vain_total:,.0f}" if vain_total else ""))
    table(("call", "calls", f"per {unit}", "in vain"), rows)
    print(f"A run of its own with {done_counted:,.0f} times one {unit}. *In vain*: failed, or "
          "waited and got no event.\n")
    if read("strace.txt"):
        print("strace needs a while to take hold and slows the process down: the calls compare "
              "with each other, and what stands for one operation is too low.\n")

print("## Threads\n")
table(("thread", "share", "of it in the kernel"),
      [(thread, share(count, samples), share(kernel_of[thread], count))
       for thread, count in threads.most_common(20)]
      + [("all", "100 %", share(kernel, samples))])
print(f"Stacks with a frame that has no name: {share(unknown, samples)}.\n")

for heading, counts in (
    ("In user space, by their own time", own_self),
    ("In user space, with all that they call, the kernel included", inclusive),
    ("In the kernel, by their own time", kernel_self),
):
    print(f"## {heading}\n")
    table(("function", "samples", "of all"),
          [(f"`{name}`", f"{count:,}", share(count, samples))
           for name, count in counts.most_common(20)])

print("## Files\n")
print("- [flame.svg](flame.svg): the flame graph; in a browser a click zooms, Ctrl-F searches")
for name in sorted(os.listdir(data)):
    print(f"- [data/{name}](data/{name})")
