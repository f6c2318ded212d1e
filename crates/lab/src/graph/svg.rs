//! A drawing as SVG: nodes are boxes, LANs ovals, and links lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Drawing;
use super::layout;

/// The colours of all drawings, on a light or a dark ground as the reader's system has it. The ground
/// is drawn, too, so that a page of the other colour does not hide them.
pub(super) const STYLE: &str = "<style>\
    .ground{fill:#fff}text{fill:#223}.note{fill:#556}.line{stroke:#667}\
    .node{fill:#eef3fb;stroke:#357}.lan{fill:#dff0d8;stroke:#474}\
    @media(prefers-color-scheme:dark){\
    .ground{fill:#1c2128}text{fill:#dde}.note{fill:#aab}.line{stroke:#99a}\
    .node{fill:#2a3a52;stroke:#79b}.lan{fill:#2d4430;stroke:#7a7}}\
    </style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n";

/// The size of a node's box.
const WIDTH: f64 = 130.0;
const HEIGHT: f64 = 40.0;
/// What is left free around everything.
const MARGIN: f64 = 15.0;

/// Returns a drawing as SVG.
#[must_use]
pub fn svg(plan: &Drawing) -> String {
    let mut on_lan: BTreeMap<&str, Vec<(usize, String)>> = BTreeMap::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        for interface in &node.interfaces {
            let title = format!("{} {}", node.name, interface.label());
            on_lan.entry(&interface.lan).or_default().push((number, title));
        }
    }
    // A line between two nodes, or an oval with lines to its nodes.
    let (mut pairs, mut hubs) = (Vec::new(), Vec::new());
    for lan in &plan.lans {
        match (on_lan.get(&lan.name[..]).map(Vec::as_slice).unwrap_or_default(), lan.is_link) {
            ([first, second], true) => pairs.push((lan, first, second)),
            (members, _) => hubs.push((lan, members)),
        }
    }
    let nodes = plan.nodes.len();
    let mut joined: Vec<(usize, usize)> =
        pairs.iter().map(|(_, (first, _), (second, _))| (*first, *second)).collect();
    for (number, (_, members)) in hubs.iter().enumerate() {
        joined.extend(members.iter().map(|(node, _)| (*node, nodes + number)));
    }
    let space = (WIDTH + 20.0, HEIGHT + 30.0);
    let mut places = layout::places(nodes, hubs.len(), &joined, space);
    let (mut width, mut height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
    for place in &mut places {
        *place = (place.0 + WIDTH / 2.0 + MARGIN, place.1 + HEIGHT / 2.0 + MARGIN);
        width = width.max(place.0 + WIDTH / 2.0 + MARGIN);
        height = height.max(place.1 + HEIGHT / 2.0 + MARGIN);
    }

    let (mut lines, mut ovals, mut boxes) = (String::new(), String::new(), String::new());
    for (lan, (first, first_title), (second, second_title)) in pairs {
        let title = format!("{} {}\n{first_title}\n{second_title}", lan.name, lan.note);
        line(&mut lines, places[*first], places[*second], &title);
    }
    for ((lan, members), place) in hubs.into_iter().zip(&places[nodes..]) {
        for (node, title) in members {
            line(&mut lines, places[*node], *place, title);
        }
        oval(&mut ovals, *place, &lan.name, &format!("{} {}", lan.name, lan.note));
    }
    for (node, place) in plan.nodes.iter().zip(&places) {
        let titles: Vec<String> = node
            .interfaces
            .iter()
            .map(|interface| {
                format!("{} {} {}", interface.name, interface.lan, interface.addresses)
            })
            .collect();
        let kind = match &node.host {
            Some(host) => format!("{} on {}", node.kind, short(host)),
            None => node.kind.clone(),
        };
        rectangle(&mut boxes, *place, &node.name, &kind, &titles.join("\n"));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n<title>{}</title>\n\
         {STYLE}{lines}{ovals}{boxes}</svg>\n",
        escape(&plan.name)
    )
}

fn line(text: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), title: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"line\" \
         stroke-width=\"1.5\"><title>{}</title></line>",
        escape(title.trim())
    );
}

fn oval(text: &mut String, (x, y): (f64, f64), name: &str, title: &str) {
    let name = short(name);
    let width = 14.0 + name.chars().count() as f64 * 3.8;
    let _ = writeln!(
        text,
        "<g><title>{}</title><ellipse cx=\"{x:.1}\" cy=\"{y:.1}\" rx=\"{width:.1}\" ry=\"18\" \
         class=\"lan\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
        escape(title.trim()),
        y + 4.5,
        escape(&name)
    );
}

fn rectangle(text: &mut String, (x, y): (f64, f64), name: &str, kind: &str, title: &str) {
    let _ = writeln!(
        text,
        "<g><title>{}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         rx=\"5\" class=\"node\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text>\
         <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10\" class=\"note\">{}</text></g>",
        escape(title),
        x - WIDTH / 2.0,
        y - HEIGHT / 2.0,
        y - 2.0,
        escape(&short(name)),
        y + 13.0,
        escape(kind)
    );
}

/// Returns as much of a name as there is room for.
fn short(name: &str) -> String {
    if name.chars().count() > 16 {
        name.chars().take(15).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}

/// Returns a text as it is in XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            letter if letter.is_control() => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Source;
    use crate::plan::Plan;

    #[test]
    fn every_node_and_lan_is_drawn() {
        let text = "[lan.a]\n[lan.b]\n[link.l]\nends = [\"x1\", \"x2\"]\n[node.x]\ncount = 20\nlans = [\"a\", \"b\"]\n";
        let plan = Plan::from_toml(text, &Source::new()).unwrap();
        let drawing = svg(&(&plan).into());
        assert_eq!(drawing.matches("<rect x=").count(), 20);
        assert_eq!(drawing.matches("<ellipse").count(), 2);
        assert_eq!(drawing.matches("<line").count(), 41);
        assert!(drawing.ends_with("</svg>\n") && !drawing.contains("NaN"));
        assert!(!svg(&Drawing::default()).contains("NaN"));
        assert!(svg(&Drawing::default()).contains("viewBox=\"0 0 160 70\""));
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape("<a href=\"&\">\u{1b}"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
