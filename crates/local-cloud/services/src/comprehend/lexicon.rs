//! The words, and the sentiment that they give a text.

use std::collections::HashSet;
use std::sync::LazyLock;

type Words = LazyLock<HashSet<&'static str>>;

fn words(list: &'static str) -> HashSet<&'static str> {
    list.split_ascii_whitespace().collect()
}

#[rustfmt::skip]
pub(super) static PRAISE: Words = LazyLock::new(|| words("\
    admirable adorable airy amazing attractive awesome beautiful beautifully best \
    breathtaking bright brilliant charm charming cheerful clean comfortable comfy convenient cosy cozy \
    delight delightful desirable elegant enchanting enjoy enjoyable excellent exceptional exquisite \
    fabulous fantastic fine flawless fresh friendly generous glorious good gorgeous great happy ideal \
    idyllic immaculate impeccable impressive incredible inviting like love loved lovely lovingly \
    luxurious luxury magnificent marvellous marvelous nice outstanding peaceful perfect perfectly \
    picturesque pleasant pleased pretty pristine quiet refined relaxing remarkable safe secluded serene \
    spacious spectacular splendid spotless stunning stylish sublime sunny superb terrific tranquil \
    unique vibrant warm welcoming wonderful wonderfully"));

#[rustfmt::skip]
pub(super) static BLAME: Words = LazyLock::new(|| words("\
    abandoned abysmal appalling avoid awful bad boring broken cockroaches collapsing \
    complaint complaints contaminated cracked cramped creepy crime crumbling cursed damaged damp dangerous \
    decayed decaying decrepit defective depressing derelict despise dilapidated dirty disappointed \
    disappointing disaster disgusting dismal dreadful dreary dump faulty filthy flooded foul garbage \
    ghastly gloomy grim grimy gross hate hated hazard hazardous haunted hideous horrendous horrible \
    horribly horror infested insult junk leaking leaks leaky lousy miserable mold moldy mould mouldy \
    nasty neglected nightmare noisy overpriced pathetic polluted poor poorly rats regret revolting rotten \
    rotting rubbish ruin ruined rundown scam shabby shoddy sinister smelly squalid stench stinking stinks \
    terrible terribly terrifying toxic trash ugly unbearable uncomfortable unfit uninhabitable unlivable \
    unpleasant unsafe useless vermin vile waste worse worst worthless wreck wretched"));

#[rustfmt::skip]
static NEGATIONS: Words = LazyLock::new(|| words("\
    not no never neither nor without hardly barely isn't wasn't aren't weren't don't \
    doesn't didn't can't cannot couldn't won't wouldn't"));

/// How many words a negation reaches.
const REACH: usize = 3;

/// The sentiment, and the scores of positive, negative, neutral and mixed. The scores sum to 1; that of the
/// sentiment is the highest.
pub(super) fn judge(text: &str) -> (&'static str, [f64; 4]) {
    let (praise, blame) = weigh(text);
    let weaker = praise.min(blame);
    let sentiment = match (praise, blame) {
        (0, 0) => "NEUTRAL",
        _ if weaker * 2 >= praise.max(blame) => "MIXED",
        _ if praise > blame => "POSITIVE",
        _ => "NEGATIVE",
    };
    // A small share for each: on AWS, too, no score is 0.
    let raw = [
        praise as f64 + 0.02,
        blame as f64 + 0.02,
        if sentiment == "NEUTRAL" { 1.0 } else { 0.1 },
        if sentiment == "MIXED" { (praise + blame) as f64 } else { weaker as f64 * 0.5 + 0.01 },
    ];
    let sum: f64 = raw.iter().sum();
    (sentiment, raw.map(|share| share / sum))
}

/// How many words count for and against the text.
fn weigh(text: &str) -> (usize, usize) {
    let (mut praise, mut blame) = (0, 0);
    // How many more words the last negation reaches; it ends with its sentence.
    let mut reach = 0;
    for sentence in text.split(['.', '!', '?', ';', '\n']) {
        for word in sentence.split(|letter: char| !letter.is_alphabetic() && letter != '\'' && letter != '’')
        {
            let word = word.trim_matches(['\'', '’']).to_lowercase().replace('’', "'");
            if word.is_empty() {
                continue;
            }
            let word = word.as_str();
            if NEGATIONS.contains(word) {
                reach = REACH;
                continue;
            }
            match (PRAISE.contains(word), BLAME.contains(word), reach > 0) {
                (true, _, false) => praise += 1,
                (true, _, true) | (_, true, false) => blame += 1,
                _ => {}
            }
            reach = reach.saturating_sub(1);
        }
        reach = 0;
    }
    (praise, blame)
}
