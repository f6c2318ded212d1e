//! A drawing as SVG: the nodes on a circle, and the LANs on a smaller one inside.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fmt::Write as _;

use super::Drawing;

/// The size of a node's box.
const WIDTH: f64 = 130.0;
const HEIGHT: f64 = 40.0;

/// Returns a drawing as SVG.
#[must_use]
pub fn svg(plan: &Drawing) -> String {
    // The boxes on the circle do not touch.
    let radius = (plan.nodes.len() as f64 * (WIDTH + 20.0) / TAU).max(200.0);
    let middle = radius + WIDTH;
    let size = 2.0 * middle;
    let angle =
        |index: usize, count: usize| TAU * (index as f64) / (count.max(1) as f64) - TAU / 4.0;
    let at =
        |angle: f64, radius: f64| (middle + radius * angle.cos(), middle + radius * angle.sin());

    let node_angle = |index| angle(index, plan.nodes.len());
    let mut on_lan: BTreeMap<&str, Vec<(usize, String)>> = BTreeMap::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        for interface in &node.interfaces {
            let title = format!("{} {}", node.name, interface.label());
            on_lan.entry(&interface.lan).or_default().push((number, title));
        }
    }

    let mut lines = String::new();
    let mut ovals = String::new();
    let mut hubs = Vec::new();
    for lan in &plan.lans {
        let members = on_lan.get(&lan.name[..]).map(Vec::as_slice).unwrap_or_default();
        if let ([(a, first), (b, second)], true) = (members, lan.is_link) {
            let title = format!("{} {}\n{first}\n{second}", lan.name, lan.note);
            line(&mut lines, at(node_angle(*a), radius), at(node_angle(*b), radius), &title);
        } else {
            // The mean direction of its nodes.
            let (x, y) = members.iter().fold((0.0, 0.0), |(x, y), (node, _)| {
                let angle = node_angle(*node);
                (x + angle.cos(), y + angle.sin())
            });
            hubs.push((f64::atan2(y, x), lan, members));
        }
    }
    hubs.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let inner = if hubs.len() < 2 { 0.0 } else { radius * 0.5 };
    let turn = hubs.first().map_or(0.0, |(angle, ..)| *angle + TAU / 4.0);
    let count = hubs.len();
    for (index, (_, lan, members)) in hubs.into_iter().enumerate() {
        let place = at(angle(index, count) + turn, inner);
        for (node, title) in members {
            line(&mut lines, at(node_angle(*node), radius), place, title);
        }
        let title = format!("{} {}", lan.name, lan.note);
        oval(&mut ovals, place, &lan.name, &title);
    }

    let mut boxes = String::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        let titles: Vec<String> = node
            .interfaces
            .iter()
            .map(|interface| {
                format!("{} {} {}", interface.name, interface.lan, interface.addresses)
            })
            .collect();
        rectangle(
            &mut boxes,
            at(node_angle(number), radius),
            &node.name,
            &node.kind,
            &titles.join("\n"),
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size:.0} {size:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{lines}{ovals}{boxes}</svg>\n",
        escape(&plan.name)
    )
}

fn line(text: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), title: &str) {
    let _ = writeln!(
        text,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#667\" \
         stroke-width=\"1.5\"><title>{}</title></line>",
        escape(title.trim())
    );
}

fn oval(text: &mut String, (x, y): (f64, f64), name: &str, title: &str) {
    let width = 30.0 + name.chars().count() as f64 * 4.5;
    let _ = writeln!(
        text,
        "<g><title>{}</title><ellipse cx=\"{x:.1}\" cy=\"{y:.1}\" rx=\"{width:.1}\" ry=\"18\" \
         fill=\"#dff0d8\" stroke=\"#474\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
        escape(title.trim()),
        y + 4.5,
        escape(name)
    );
}

fn rectangle(text: &mut String, (x, y): (f64, f64), name: &str, kind: &str, title: &str) {
    let name: String = if name.chars().count() > 16 {
        name.chars().take(15).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let _ = writeln!(
        text,
        "<g><title>{}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         rx=\"5\" fill=\"#eef3fb\" stroke=\"#357\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text>\
         <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10\" fill=\"#555\">{}</text></g>",
        escape(title),
        x - WIDTH / 2.0,
        y - HEIGHT / 2.0,
        y - 2.0,
        escape(&name),
        y + 13.0,
        escape(kind)
    );
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
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape("<a href=\"&\">\u{1b}"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
