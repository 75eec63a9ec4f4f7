//! A CPU profile, made of the stacks that the guest has when the watchdog interrupts it.
//!
//! V8's own profiler needs a thread and signals, which a sealed worker cannot have. Here the guest is sampled where the
//! engine checks for interrupts: at the entry of a function and at each turn of a loop. The CPU time since the last sample
//! counts for the stack that is found. Where that is long, the engine was in a built-in function or collected garbage, and
//! the time counts for the innermost call that was running at both samples. The time without CPU is idle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use deno_core::sourcemap::SourceMap;
use deno_core::v8;
use stockade_profile::{CallFrame, CpuProfile, Node, PositionTick};
use stockade_supervisor::{CpuClock, LONGEST_PROFILE};

use crate::modules::{GuestModules, written};
use crate::sys::alloc::Uncounted;
use crate::sys::interrupt::Place;

/// Frames of a stack; what is further out is left out.
const MOST_FRAMES: usize = 128;

/// The most of each that a guest can have kept. What comes later counts for `(more)`.
const MOST_SPOTS: usize = 32_768;
const MOST_NODES: usize = 16_384;

/// Characters of a function's and of a script's name; a longer one is not kept.
const MOST_NAME: usize = 256;
const MOST_SOURCE: usize = 512;

/// The shortest time without CPU that is shown as such.
const SHORTEST_IDLE: Duration = Duration::from_micros(500);

/// CPU time between two samples of which one stack can be what ran; the watchdog interrupts as often.
const ONE_STACK: Duration = Duration::from_millis(1);

/// CPU time between two samples above which something could not be interrupted.
const UNINTERRUPTED: Duration = Duration::from_millis(3);

/// The most samples: with each there may be one of idle time, and one of what could not be interrupted.
const MOST_SAMPLES: usize = 3 * 1000 * LONGEST_PROFILE.as_secs() as usize;

/// Time outside of the guest's functions, by the names that DevTools know.
const NOTHING: [&str; 4] = ["(root)", "(program)", "(idle)", "(more)"];
const ROOT: u32 = 0;
const PROGRAM: u32 = 1;
const IDLE: u32 = 2;
const MORE: u32 = 3;

/// A function, or one of [`NOTHING`].
struct Function {
    name: String,
    source: String,
    script: usize,
    /// Where it was first seen, from 1; 0 for what has no place.
    line: u32,
    column: u32,
}

/// A place in a function at which it was seen.
#[derive(Clone, Copy)]
struct Spot {
    function: u32,
    line: u32,
    column: u32,
}

/// A script's number, a line and a column.
type Position = (usize, u32, u32);

/// A function as it was called.
struct Call {
    function: u32,
    parent: u32,
    hits: u32,
}

/// See the module.
pub(super) struct Sampler {
    functions: Vec<Function>,
    by_name: HashMap<(usize, String, u32), u32>,
    spots: Vec<Spot>,
    by_position: HashMap<Position, u32>,
    /// The first four are [`NOTHING`], and each comes after its caller.
    calls: Vec<Call>,
    by_caller: HashMap<(u32, u32), u32>,
    /// Hits by call and spot.
    ticks: HashMap<(u32, u32), u32>,
    /// Calls that ran, and how long.
    samples: Vec<(u32, Duration)>,
    /// When the last sample was done, and CPU time until then.
    last: (Instant, Duration),
    /// The call that the last sample found.
    last_call: u32,
    /// The stack of the sample that is being taken, innermost first.
    stack: Vec<Position>,
}

impl Sampler {
    /// The recording begins.
    pub(super) fn new() -> Self {
        let mut sampler = Self {
            functions: Vec::new(),
            by_name: HashMap::new(),
            spots: Vec::new(),
            by_position: HashMap::new(),
            calls: Vec::new(),
            by_caller: HashMap::new(),
            ticks: HashMap::new(),
            samples: Vec::new(),
            last: (Instant::now(), CpuClock::now()),
            last_call: PROGRAM,
            stack: Vec::with_capacity(MOST_FRAMES),
        };
        for (number, name) in (0..).zip(NOTHING) {
            sampler.functions.push(Function {
                name: name.to_owned(),
                source: String::new(),
                script: 0,
                line: 0,
                column: 0,
            });
            sampler.calls.push(Call {
                function: number,
                parent: ROOT,
                hits: 0,
            });
        }
        sampler
    }

    /// Takes a sample of what runs on this thread. What it costs itself is left out.
    pub(super) fn sample(&mut self, isolate: &mut v8::Isolate, context: &v8::Global<v8::Context>) {
        let now = (Instant::now(), CpuClock::now());
        if self.samples.len() < MOST_SAMPLES {
            // Names are made where they are counted and freed, and copied where they are not.
            let fresh = self.look(isolate, context);
            let _uncounted = Uncounted::begin();
            for (position, name, source) in &fresh {
                self.learn(*position, name, source);
            }
            let call = self.call();
            self.passed(now, call);
        }
        self.last = (Instant::now(), CpuClock::now());
    }

    /// Notes the stack, and gives the names of the positions that are new.
    fn look(
        &mut self,
        isolate: &mut v8::Isolate,
        context: &v8::Global<v8::Context>,
    ) -> Vec<(Position, String, String)> {
        self.stack.clear();
        let mut fresh: Vec<(Position, String, String)> = Vec::new();
        v8::scope_with_context!(let scope, isolate, context);
        let Some(stack) = v8::StackTrace::current_stack_trace(scope, MOST_FRAMES) else {
            return fresh;
        };
        for index in 0..stack.get_frame_count().min(MOST_FRAMES) {
            let Some(frame) = stack.get_frame(scope, index) else {
                break;
            };
            let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let (line, column) = (number(frame.get_line_number()), number(frame.get_column()));
            let position = (frame.get_script_id(), line, column);
            self.stack.push(position);
            if self.by_position.contains_key(&position)
                || self.spots.len() + fresh.len() >= MOST_SPOTS
                || fresh.iter().any(|(known, ..)| *known == position)
            {
                continue;
            }
            // A guest may give a function a name of any length, which V8 builds only when it is read.
            let text = |text: Option<v8::Local<'_, v8::String>>, most: usize| match text {
                Some(text) if text.length() > most => "(long name)".to_owned(),
                Some(text) => text.to_rust_string_lossy(scope),
                None => String::new(),
            };
            let name = frame.get_function_name(scope);
            let name = text(name, MOST_NAME);
            let source = frame.get_script_name_or_source_url(scope);
            let source = text(source, MOST_SOURCE);
            fresh.push((position, name, source));
        }
        fresh
    }

    /// Keeps whose position it is. Functions of one name in one script are one, those without a name one for each line.
    fn learn(&mut self, position: Position, name: &str, source: &str) {
        let (script, line, column) = position;
        let apart = if name.is_empty() { line } else { 0 };
        let function = match self.by_name.get(&(script, name.to_owned(), apart)) {
            Some(function) => *function,
            None => {
                let function = self.functions.len() as u32;
                self.functions.push(Function {
                    name: name.to_owned(),
                    source: source.to_owned(),
                    script,
                    line,
                    column,
                });
                self.by_name
                    .insert((script, name.to_owned(), apart), function);
                function
            }
        };
        if let Some(known) = self.functions.get_mut(function as usize)
            && (line, column) < (known.line, known.column)
        {
            (known.line, known.column) = (line, column);
        }
        self.by_position.insert(position, self.spots.len() as u32);
        self.spots.push(Spot {
            function,
            line,
            column,
        });
    }

    /// Finds the call that the stack ends in, and counts it.
    fn call(&mut self) -> u32 {
        let mut call = match self.stack.len() {
            0 => return self.hit(PROGRAM, None),
            // Callers are missing.
            MOST_FRAMES => MORE,
            _ => ROOT,
        };
        let mut last = None;
        for position in self.stack.iter().rev() {
            let Some(spot) = self.by_position.get(position).copied() else {
                return self.hit(MORE, None);
            };
            let function = self
                .spots
                .get(spot as usize)
                .map_or(MORE, |spot| spot.function);
            let next = self.calls.len() as u32;
            call = match self.by_caller.get(&(call, function)) {
                Some(known) => *known,
                None if self.calls.len() >= MOST_NODES => return self.hit(MORE, None),
                None => {
                    self.calls.push(Call {
                        function,
                        parent: call,
                        hits: 0,
                    });
                    self.by_caller.insert((call, function), next);
                    next
                }
            };
            last = Some(spot);
        }
        self.hit(call, last)
    }

    fn hit(&mut self, call: u32, spot: Option<u32>) -> u32 {
        if let Some(call) = self.calls.get_mut(call as usize) {
            call.hits += 1;
        }
        if let Some(spot) = spot {
            *self.ticks.entry((call, spot)).or_default() += 1;
        }
        call
    }

    /// Notes what the time since the last sample was used for.
    fn passed(&mut self, (at, cpu): (Instant, Duration), call: u32) {
        let used = cpu.saturating_sub(self.last.1);
        let elapsed = at.saturating_duration_since(self.last.0);
        let idle = elapsed.saturating_sub(used);
        if idle >= SHORTEST_IDLE {
            self.samples.push((IDLE, idle));
        }
        let both = self.innermost_of_both(self.last_call, call);
        if used > UNINTERRUPTED && both != ROOT {
            self.samples.push((both, used.saturating_sub(ONE_STACK)));
            self.samples.push((call, ONE_STACK));
        } else {
            self.samples.push((call, used));
        }
        self.last_call = call;
    }

    /// The innermost call that both calls are part of.
    fn innermost_of_both(&self, mut one: u32, mut other: u32) -> u32 {
        let parent = |call: u32| {
            self.calls
                .get(call as usize)
                .map_or(ROOT, |call| call.parent)
        };
        // Each comes after its caller.
        while one != other {
            match one > other {
                true => one = parent(one),
                false => other = parent(other),
            }
        }
        one
    }

    /// The recording ends: the profile as the text of a `.cpuprofile` file, with the positions that the guest's author
    /// wrote.
    pub(super) fn finish(mut self, modules: &GuestModules) -> Result<Vec<u8>, String> {
        // What ran since the last sample was too short for one, and mostly there was nothing.
        let end = (Instant::now(), CpuClock::now());
        self.hit(PROGRAM, None);
        self.passed(end, PROGRAM);
        let nodes = self.nodes(modules);
        // A sample of the format is what ran from then on; here it is what ran until then.
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let times = self.samples.iter().map(|(_, time)| micros(*time));
        let end_time = times.clone().fold(0, i64::saturating_add);
        let profile = CpuProfile {
            nodes,
            start_time: 0,
            end_time: end_time.unsigned_abs(),
            samples: self.samples.iter().map(|(call, _)| call + 1).collect(),
            time_deltas: std::iter::once(0)
                .chain(times)
                .take(self.samples.len())
                .collect(),
        };
        serde_json::to_vec(&profile).map_err(|error| format!("cannot write the profile: {error}"))
    }

    /// The calls as nodes of the format, each with the lines that its samples were at.
    fn nodes(&self, modules: &GuestModules) -> Vec<Node> {
        let mut maps: HashMap<&str, Option<SourceMap>> = HashMap::new();
        for function in &self.functions {
            (maps.entry(&function.source)).or_insert_with(|| {
                let map = modules.source_map(&function.source)?;
                // The guest may have written it, and each call has a copy of what it names.
                let is_short = map.sources().all(|source| source.len() <= MOST_SOURCE);
                is_short.then_some(map)
            });
        }
        let original = |function: &Function, line: u32, column: u32| {
            let place = Place {
                function: None,
                source: function.source.clone(),
                line,
                column,
            };
            match maps.get(function.source.as_str()) {
                Some(Some(map)) if line > 0 => written(map, &place),
                _ => place,
            }
        };
        let mut nodes: Vec<Node> = Vec::with_capacity(self.calls.len());
        for (id, call) in (1..).zip(&self.calls) {
            let Some(function) = self.functions.get(call.function as usize) else {
                continue;
            };
            let place = original(function, function.line, function.column);
            nodes.push(Node {
                id,
                call_frame: CallFrame {
                    function_name: function.name.clone(),
                    script_id: function.script.to_string(),
                    url: place.source,
                    line_number: i64::from(place.line) - 1,
                    column_number: i64::from(place.column) - 1,
                },
                hit_count: call.hits,
                ..Node::default()
            });
            if id > 1
                && let Some(parent) = nodes.get_mut(call.parent as usize)
            {
                parent.children.push(id);
            }
        }
        for ((call, spot), ticks) in &self.ticks {
            let Some(spot) = self.spots.get(*spot as usize) else {
                continue;
            };
            let Some(function) = self.functions.get(spot.function as usize) else {
                continue;
            };
            let line = original(function, spot.line, spot.column).line;
            if let Some(node) = nodes.get_mut(*call as usize) {
                match (node.position_ticks.iter_mut()).find(|tick| tick.line == line) {
                    Some(tick) => tick.ticks += ticks,
                    None => node.position_ticks.push(PositionTick {
                        line,
                        ticks: *ticks,
                    }),
                }
            }
        }
        for node in &mut nodes {
            node.position_ticks.sort_by_key(|tick| tick.line);
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sampler: &mut Sampler, stack: &[(usize, u32, &str)]) -> u32 {
        sampler.stack = stack
            .iter()
            .map(|(script, line, _)| (*script, *line, 1))
            .collect();
        for (script, line, name) in stack {
            let position = (*script, *line, 1);
            if !sampler.by_position.contains_key(&position) {
                sampler.learn(position, name, "guest:///main.ts");
            }
        }
        sampler.call()
    }

    fn read(sampler: Sampler) -> CpuProfile {
        let text = sampler.finish(&GuestModules::default()).unwrap();
        CpuProfile::read(&text).unwrap()
    }

    #[test]
    fn calls_of_a_function_by_one_caller_are_one_node_with_its_lines() {
        let mut sampler = Sampler::new();
        let first = named(&mut sampler, &[(1, 7, "inner"), (1, 2, "outer")]);
        assert_eq!(
            named(&mut sampler, &[(1, 9, "inner"), (1, 3, "outer")]),
            first
        );
        let other = named(&mut sampler, &[(1, 9, "inner")]);
        assert_ne!(other, first);
        let profile = read(sampler);
        let node = &profile.nodes[first as usize];
        assert_eq!(node.call_frame.function_name, "inner");
        assert_eq!((node.call_frame.line_number, node.hit_count), (6, 2));
        let ticks: Vec<_> = node
            .position_ticks
            .iter()
            .map(|tick| (tick.line, tick.ticks))
            .collect();
        assert_eq!(ticks, [(7, 1), (9, 1)]);
        let outer = profile
            .nodes
            .iter()
            .find(|node| node.call_frame.function_name == "outer");
        assert_eq!(outer.unwrap().children, [first + 1]);
        assert!(profile.nodes[0].children.contains(&(other + 1)));
    }

    #[test]
    fn time_counts_for_the_call_that_ran_until_the_sample_and_the_rest_is_idle() {
        let mut sampler = Sampler::new();
        let began = sampler.last;
        let call = named(&mut sampler, &[(1, 1, "f")]);
        let after = |elapsed, cpu| {
            let [elapsed, cpu] = [elapsed, cpu].map(Duration::from_millis);
            (began.0 + elapsed, began.1 + cpu)
        };
        sampler.passed(after(10, 4), call);
        assert_eq!(
            sampler.samples,
            [
                (IDLE, Duration::from_millis(6)),
                (call, Duration::from_millis(4))
            ]
        );
        let profile = read(sampler);
        assert_eq!(profile.samples[..2], [IDLE + 1, call + 1]);
        assert_eq!(profile.time_deltas[..2], [0, 6000]);
    }

    #[test]
    fn long_time_without_a_sample_counts_for_the_call_that_both_samples_share() {
        let mut sampler = Sampler::new();
        let began = sampler.last;
        let at = |ms| {
            let time = Duration::from_millis(ms);
            (began.0 + time, began.1 + time)
        };
        let main = named(&mut sampler, &[(1, 1, "main")]);
        let first = named(&mut sampler, &[(1, 2, "first"), (1, 1, "main")]);
        sampler.passed(at(1), first);
        sampler.last = at(1);
        let second = named(&mut sampler, &[(1, 3, "second"), (1, 1, "main")]);
        sampler.passed(at(51), second);
        let ms = Duration::from_millis;
        assert_eq!(
            sampler.samples,
            [(first, ms(1)), (main, ms(49)), (second, ms(1))]
        );
    }

    #[test]
    fn stacks_without_end_and_names_without_end_are_bounded() {
        let mut sampler = Sampler::new();
        assert_eq!(named(&mut sampler, &[]), PROGRAM);
        for number in 0..2 * MOST_NODES as u32 {
            named(&mut sampler, &[(number as usize, 1, "f")]);
        }
        assert_eq!(sampler.calls.len(), MOST_NODES);
        assert_eq!(named(&mut sampler, &[(usize::MAX, 1, "f")]), MORE);
        let deep: Vec<_> = (0..MOST_FRAMES).map(|_| (0, 1, "f")).collect();
        assert_eq!(named(&mut sampler, &deep), MORE);
        assert!(read(sampler).nodes.len() <= MOST_NODES);
    }
}
