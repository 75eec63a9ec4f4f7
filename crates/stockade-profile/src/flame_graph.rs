//! A flame graph: every call as a bar as wide as its share of the CPU time, on top of its caller.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::CpuProfile;

/// Pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 44.0;

/// Bars that are narrower than this are left out, and with them what they called.
const NARROWEST: f64 = 0.2;

/// Pixels of a character.
const CHARACTER: f64 = 6.7;

/// The most bars of a picture, and the most that are on top of each other.
const MOST_BARS: usize = 20_000;
const MOST_ROWS: usize = 512;

/// Characters of a name that is shown.
const MOST_CHARACTERS: usize = 256;

/// Time in which nothing ran is no CPU time.
const IDLE: &str = "(idle)";

/// A call as it is drawn: calls of one function by the same caller are one.
struct Bar {
    name: String,
    place: String,
    own: u64,
    total: u64,
    row: usize,
    children: Vec<usize>,
}

/// Draws a profile as an SVG picture, 1200 pixels wide, with `title` above it. Time in which nothing ran is left out.
#[must_use]
pub fn flame_graph(profile: &CpuProfile, title: &str) -> String {
    let bars = bars(profile);
    let total = bars.first().map_or(0, |root| root.total);
    let rows = shown(&bars, total).map(|(bar, ..)| bar.row + 1).max();
    let height = HEAD + rows.unwrap_or(1) as f64 * ROW + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"11\" role=\"img\">\n"
    );
    let milliseconds = total as f64 / 1e3;
    // Writing into a text does not fail.
    let _ = writeln!(
        out,
        "<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fdfdfb\"/>\n\
         <text x=\"{MARGIN}\" y=\"18\" font-size=\"14\" fill=\"#222\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"34\" fill=\"#555\">{milliseconds:.1} ms of CPU time; a bar's tooltip has its share and place</text>",
        title = escaped(title)
    );
    for (bar, x, width) in shown(&bars, total).take(MOST_BARS) {
        draw(&mut out, bar, (x, width), height, total);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, bar: &Bar, (x, width): (f64, f64), height: f64, total: u64) {
    let y = height - MARGIN - (bar.row + 1) as f64 * ROW;
    let percent = bar.total as f64 * 100.0 / total.max(1) as f64;
    let name = escaped(&bar.name);
    let place = escaped(&bar.place);
    let (all, own) = (bar.total as f64 / 1e3, bar.own as f64 / 1e3);
    let [red, green, blue] = colour(&bar.name, &bar.place);
    let _ = write!(
        out,
        "<g><title>{name}{gap}{place}\n{all:.1} ms, {percent:.1} %; itself {own:.1} ms</title>\
         <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{bar_height}\" rx=\"1\" fill=\"rgb({red},{green},{blue})\"/>",
        gap = if place.is_empty() { "" } else { "\n" },
        bar_height = ROW - 1.0,
    );
    let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    let length = bar.name.chars().count();
    if room >= 3 {
        let shown: String = match length <= room {
            true => bar.name.clone(),
            false => bar.name.chars().take(room - 1).chain(['…']).collect(),
        };
        let _ = write!(
            out,
            "<text x=\"{:.2}\" y=\"{}\" fill=\"#111\">{}</text>",
            x + 3.0,
            y + 12.0,
            escaped(&shown)
        );
    }
    out.push_str("</g>\n");
}

/// The bars that are wide enough to be seen, with their left sides and widths.
fn shown(bars: &[Bar], total: u64) -> impl Iterator<Item = (&Bar, f64, f64)> {
    let scale = (WIDTH - 2.0 * MARGIN) / total.max(1) as f64;
    let mut waiting = match bars.first() {
        Some(_) if total > 0 => vec![(0_usize, MARGIN)],
        _ => Vec::new(),
    };
    std::iter::from_fn(move || {
        let (index, x) = waiting.pop()?;
        let bar = bars.get(index)?;
        let mut at = x;
        for child in &bar.children {
            let width = bars
                .get(*child)
                .map_or(0.0, |child| child.total as f64 * scale);
            if width >= NARROWEST {
                waiting.push((*child, at));
            }
            at += width;
        }
        Some((bar, x, bar.total as f64 * scale))
    })
}

/// The bars of a profile, the root first, each before what it called.
fn bars(profile: &CpuProfile) -> Vec<Bar> {
    let own = profile.own_times();
    let places: HashMap<u32, usize> = (profile.nodes.iter().enumerate())
        .map(|(place, node)| (node.id, place))
        .collect();
    let mut bars: Vec<Bar> = Vec::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut by_name: HashMap<(usize, String, String), usize> = HashMap::new();
    let mut seen = vec![false; profile.nodes.len()];
    // Each node is visited once, whatever its callers say of it.
    let mut waiting = vec![(0_usize, None::<usize>)];
    while let Some((place, parent)) = waiting.pop() {
        let (Some(node), Some(seen)) = (profile.nodes.get(place), seen.get_mut(place)) else {
            continue;
        };
        if std::mem::replace(seen, true) {
            continue;
        }
        let frame = &node.call_frame;
        if frame.function_name == IDLE {
            continue;
        }
        let row = parent
            .and_then(|parent| bars.get(parent))
            .map_or(0, |bar| bar.row + 1);
        let index = if row >= MOST_ROWS {
            // What is deeper counts for the last one that is drawn.
            parent.unwrap_or(0)
        } else {
            let name = match frame.function_name.as_str() {
                "" => "(anonymous)".to_owned(),
                name => cut(name),
            };
            let place = match frame.url.as_str() {
                "" => String::new(),
                url => format!("{}:{}", cut(url), frame.line_number.saturating_add(1)),
            };
            let key = (parent.unwrap_or(usize::MAX), name.clone(), place.clone());
            *by_name.entry(key).or_insert_with(|| {
                bars.push(Bar {
                    name,
                    place,
                    own: 0,
                    total: 0,
                    row,
                    children: Vec::new(),
                });
                parents.push(parent.unwrap_or(usize::MAX));
                bars.len() - 1
            })
        };
        if let Some(bar) = bars.get_mut(index) {
            bar.own = bar.own.saturating_add(own.get(place).copied().unwrap_or(0));
        }
        for child in &node.children {
            if let Some(child) = places.get(child) {
                waiting.push((*child, Some(index)));
            }
        }
    }
    // A bar comes after its caller, so that from the last to the first each total is complete.
    for index in (0..bars.len()).rev() {
        let total = bars[index].own.saturating_add(bars[index].total);
        bars[index].total = total;
        if let Some(parent) = bars.get_mut(parents[index]) {
            parent.total = parent.total.saturating_add(total);
            parent.children.push(index);
        }
    }
    for index in 0..bars.len() {
        let mut children = std::mem::take(&mut bars[index].children);
        children.sort_by(|a, b| bars[*a].name.cmp(&bars[*b].name));
        bars[index].children = children;
    }
    bars
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

/// A warm colour, the same for the same function in every picture.
fn colour(name: &str, place: &str) -> [u8; 3] {
    // FNV-1a.
    let hash = name
        .bytes()
        .chain(place.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let part = |shift: u32, least: u64, span: u64| (least + (hash >> shift) % span) as u8;
    [part(0, 215, 40), part(16, 110, 110), part(32, 60, 60)]
}

/// Text for XML 1.0, which cannot have all characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push('\u{fffd}');
            }
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallFrame, Node};

    fn node(id: u32, name: &str, children: &[u32]) -> Node {
        Node {
            id,
            call_frame: CallFrame {
                function_name: name.to_owned(),
                url: "guest:///a.ts".to_owned(),
                ..CallFrame::default()
            },
            children: children.to_vec(),
            ..Node::default()
        }
    }

    fn profile(nodes: Vec<Node>, samples: &[u32]) -> CpuProfile {
        CpuProfile {
            nodes,
            end_time: 1000 * samples.len() as u64,
            samples: samples.to_vec(),
            time_deltas: std::iter::once(0)
                .chain(std::iter::repeat(1000))
                .take(samples.len())
                .collect(),
            ..CpuProfile::default()
        }
    }

    #[test]
    fn graph_has_a_bar_as_wide_as_its_share_and_none_for_idle_time() {
        let nodes = vec![
            node(1, "(root)", &[2, 3, 4]),
            node(2, "half", &[]),
            node(3, "other", &[]),
            node(4, IDLE, &[]),
        ];
        let picture = flame_graph(&profile(nodes, &[2, 3, 4, 4]), "t");
        assert!(
            picture.contains("half\nguest:///a.ts:1\n1.0 ms, 50.0 %; itself 1.0 ms"),
            "{picture}"
        );
        assert!(picture.contains("width=\"590.00\""), "{picture}");
        assert!(!picture.contains(IDLE), "{picture}");
    }

    #[test]
    fn graph_of_one_function_called_at_two_lines_has_one_bar() {
        let nodes = vec![
            node(1, "(root)", &[2, 3]),
            node(2, "f", &[]),
            node(3, "f", &[]),
        ];
        let picture = flame_graph(&profile(nodes, &[2, 3]), "t");
        assert_eq!(picture.matches("100.0 %").count(), 2, "{picture}");
    }

    #[test]
    fn graph_escapes_names_and_drops_what_xml_cannot_have() {
        let nodes = vec![
            node(1, "(root)", &[2]),
            node(2, "</title><script>alert('1')</script>\u{0}\u{202e}", &[]),
        ];
        let picture = flame_graph(&profile(nodes, &[2]), "a & \"b\" <c>");
        assert!(!picture.contains("<script"), "{picture}");
        assert!(!picture.contains('\u{0}') && !picture.contains('\u{202e}'));
        assert!(picture.contains("<title>a &amp; &quot;b&quot; &lt;c&gt;</title>"));
    }

    #[test]
    fn graph_of_a_tree_with_circles_and_of_none_ends() {
        let circle = vec![node(1, "a", &[2]), node(2, "b", &[1, 2, 77])];
        let picture = flame_graph(&profile(circle, &[1, 2]), "t");
        assert_eq!(picture.matches("<g>").count(), 2);
        assert_eq!(
            flame_graph(&CpuProfile::default(), "t")
                .matches("<g>")
                .count(),
            0
        );
    }

    #[test]
    fn graph_of_a_very_deep_and_of_a_very_wide_tree_is_bounded() {
        let deep: Vec<Node> = (1..=5000)
            .map(|id| node(id, &format!("f{id}"), &[id + 1]))
            .collect();
        let picture = flame_graph(&profile(deep, &[5000]), "t");
        assert_eq!(picture.matches("<g>").count(), MOST_ROWS);
        let all: Vec<u32> = (2..=50_000).collect();
        let mut wide = vec![node(1, "(root)", &all)];
        wide.extend(all.iter().map(|id| node(*id, &format!("f{id}"), &[])));
        let picture = flame_graph(&profile(wide, &all), "t");
        assert!(picture.matches("<g>").count() <= MOST_BARS);
    }
}
