use super::*;

use std::path::Path;

use xenvelope_service::settings::{Settings, from_text};

fn read(text: &str) -> Result<Config, String> {
    let settings = from_text::<Config>(Path::new("backend.toml"), text);
    let Settings { value, source } = settings.map_err(|error| error.to_string())?;
    value.check(&source).map_err(|error| error.to_string())?;
    Ok(value)
}

#[test]
fn the_example_says_the_defaults() {
    let example = include_str!("../../../../etc/backend.toml");
    let config = read(example).expect("the example is right");
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    // What is commented out must be right too: `#key` is a key, `# word` a comment.
    let all: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        })
        .filter(|line| !line.starts_with("interface = "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = read(&all).expect("what is commented out is right");
    assert!(config.uplink.tap.is_some() && config.card.pf.is_some(), "{config:?}");
    assert!(!config.guest.is_empty() && !config.pair.is_empty(), "{config:?}");
}

#[test]
fn guests_and_pairs_are_read() {
    let config = read(
        "default-route-between-guests = \"switch\"\n\
         [card]\npf = \"eth0\"\n\
         [[guest]]\nmac = \"00:16:3e:00:00:01\"\nvf = 1\n\
         [[guest]]\nmac = \"00:16:3e:00:00:02\"\nnetworks = [1, 2]\nvlan = 7\n\
         default-route = \"driver-domain\"\n\
         [[pair]]\nbetween = [\"00:16:3e:00:00:01\", \"00:16:3e:00:00:02\"]\nroute = \"direct\"\n",
    )
    .expect("it is right");
    assert_eq!(config.default_route_between_guests, PairRoute::Switch);
    assert_eq!(config.vfs(), BTreeMap::from([(1, MacAddress([0, 0x16, 0x3e, 0, 0, 1]))]));
    assert_eq!(config.guest[0].networks, BTreeSet::from([0]));
    assert_eq!(config.guest[1].networks, BTreeSet::from([1, 2]));
    assert_eq!(config.guest[1].vlan.get(), 7);
    assert_eq!(config.pair[0].route, PairRoute::Direct);
}

#[test]
fn every_way_has_its_word() {
    use PairRoute::*;
    let ways = [Auto, Bridge, BridgeReceiverCopy, Switch, Direct, NicFrame, NicEnvelope];
    let words =
        ["auto", "bridge", "bridge-receiver-copy", "switch", "direct", "nic-frame", "nic-envelope"];
    for (way, word) in ways.into_iter().zip(words) {
        let config = read(&format!("default-route-between-guests = \"{word}\"")).expect(word);
        assert_eq!(config.default_route_between_guests, way);
    }
    let ways = [(DefaultRoute::Auto, "auto"), (DefaultRoute::DriverDomain, "driver-domain")];
    for (way, word) in ways {
        let text = format!("[[guest]]\nmac = \"00:16:3e:00:00:01\"\ndefault-route = \"{word}\"");
        assert_eq!(read(&text).expect(word).guest[0].default_route, way);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let guest = "[[guest]]\nmac = \"00:16:3e:00:00:01\"\n";
    let cases: &[(String, usize, &str)] = &[
        ("queues = 0".to_owned(), 1, "1 to 8"),
        ("\nqueues = -1".to_owned(), 2, "1 to 8"),
        ("queues = \"four\"".to_owned(), 1, "four"),
        ("table-pages = 17".to_owned(), 1, "1 to 16"),
        ("default-route-between-guests = \"best\"".to_owned(), 1, "nic-envelope"),
        ("[uplink]\ntap = \"a/b\"".to_owned(), 2, "a/b"),
        ("[uplink]\ntap = \"a\"\ninterface = \"b\"".to_owned(), 3, "remove one"),
        ("[uplink]\ntab = \"a\"".to_owned(), 2, "tap"),
        ("[[guest]]\nvlan = 1".to_owned(), 1, "mac"),
        ("[[guest]]\nmac = \"00:16:3e:00:00\"".to_owned(), 2, "MAC address"),
        ("[[guest]]\nmac = \"01:16:3e:00:00:00\"".to_owned(), 2, "group"),
        (format!("{guest}{guest}"), 4, "already"),
        (format!("{guest}vf = 0"), 3, "[card]"),
        (format!("{guest}vlan = 4095"), 3, "4094"),
        (
            format!(
                "[card]\npf = \"e\"\n{guest}vf = 0\n[[guest]]\nmac = \"00:16:3e:00:00:02\"\nvf = 0"
            ),
            8,
            "VF 0",
        ),
        (
            "[[pair]]\nbetween = [\"00:16:3e:00:00:01\", \"00:16:3e:00:00:01\"]\nroute = \"auto\""
                .to_owned(),
            2,
            "differ",
        ),
    ];
    for (text, line, says) in cases {
        let error = read(text).expect_err(text);
        assert!(error.contains(&format!(":{line}: ")), "{text}: {error}");
        assert!(error.contains(says) && !error.contains('\n'), "{text}: {error}");
    }
}
