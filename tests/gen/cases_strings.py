"""Strings: joining, splitting, case, patterns, n-grams."""

import numpy as np

text = lambda v: np.array(v, object)


def concat(add):
    a = text([["a", ""], ["ä", "日本"]])
    add("StringConcat", 20, [a, text(["x", "y"])])
    add("StringConcat", 20, [a, text("!")])
    add("StringConcat", 20, [text([["a"], ["b"]]), text([["c", "d"]])])
    add("StringConcat", 20, [np.zeros((0, 2), object), text(["a", "b"])], name="empty")
    add.fails("SHAPE", "StringConcat", 20, [text(["a", "b"]), text(["a", "b", "c"])])
    add.fails("TYPE", "StringConcat", 20, [text(["a"]), np.zeros(1, np.float32)])


def split(add):
    words = text(["a b  c", "", "  x ", "one", "a,b,,c", ",", "a b  "])
    for more in ({}, {"maxsplit": 1}, {"maxsplit": 2}):
        add("StringSplit", 20, [words], n_out=2, **more)
        add("StringSplit", 20, [words], n_out=2, delimiter=",", **more)
    # ONNX says white space, ONNX Runtime splits at spaces only
    add(
        "StringSplit",
        20,
        [text(["\t tab\nnew ", "a\r\n\v\fb"])],
        n_out=2,
        want=[text([["tab", "new"], ["a", "b"]]), np.array([2, 2], np.int64)],
    )
    add("StringSplit", 20, [text([["a--b", "c"], ["--", "-"]])], n_out=2, delimiter="--")
    add("StringSplit", 20, [text("a b")], n_out=2, name="scalar")
    add.fails("TYPE", "StringSplit", 20, [np.zeros(1, np.float32)], n_out=2)


def normalizer(add):
    # ONNX Runtime needs a locale of the machine for any case mapping
    days = text(["Monday", "tuesday", "ÄRGER", "wednesday", "дом"])
    for action in ("LOWER", "UPPER", "NONE"):
        add("StringNormalizer", 10, [days], case_change_action=action, locale="C.UTF-8")
        add(
            "StringNormalizer",
            10,
            [days],
            case_change_action=action,
            is_case_sensitive=1,
            stopwords=["Monday"],
            locale="C.UTF-8",
        )
    add(
        "StringNormalizer",
        10,
        [days],
        is_case_sensitive=0,
        stopwords=["mONDAY", "ärger"],
        want=[days[[1, 3, 4]]],
        name="folded",
    )
    add(
        "StringNormalizer",
        10,
        [days[None]],
        case_change_action="UPPER",
        is_case_sensitive=1,
        stopwords=["tuesday"],
        want=[text([["MONDAY", "ÄRGER", "WEDNESDAY", "ДОМ"]])],
    )
    add(
        "StringNormalizer",
        10,
        [text(["a", "b"])],
        is_case_sensitive=1,
        stopwords=["a", "b"],
        want=[text([""])],
        name="nothing",
    )
    add(
        "StringNormalizer",
        10,
        [text([["a"]])],
        is_case_sensitive=1,
        stopwords=["a"],
        want=[text([[""]])],
        name="nothing",
    )
    # Turkic languages have an i with and one without a dot: Unicode's SpecialCasing.txt
    add(
        "StringNormalizer",
        10,
        [text(["Iı", "iİ"])],
        case_change_action="LOWER",
        locale="tr_TR.UTF-8",
        want=[text(["ıı", "ii"])],
    )
    add("StringNormalizer", 10, [text(["ıi"])], case_change_action="UPPER", locale="az", want=[text(["Iİ"])])
    add.fails("FORMAT", "StringNormalizer", 10, [days], case_change_action="TITLE")
    add.fails("SHAPE", "StringNormalizer", 10, [text([["a"], ["b"]])])


PATTERNS = [  # (pattern, texts): ONNX Runtime calls RE2 itself
    (r"", ["", "a"]),
    (r"a|b|", ["a", "b", "", "ab"]),
    (r"(a*)*b", ["aaab", "b", "aaa"]),
    (r"(ab|a)(bc)?", ["abc", "ab", "a", "abbc"]),
    (r"x{2}y{2,}z{1,3}", ["xxyyz", "xxyyyzzz", "xyz", "xxyyzzzz"]),
    (r"a{,2}", ["a{,2}", "aa"]),
    (r"a+?b??c*?", ["aab", "abcc", "bc"]),
    (r"[a-c]+[^a-c]", ["abcd", "abc", "ab\n"]),
    (r"[]a]+[^]]", ["]a]b", "a]"]),
    (r"[a\-z-]+", ["a-z", "b"]),
    (r"[[:alpha:]]+[[:^digit:]][[:space:]]", ["abx ", "a1 ", "ab\t"]),
    (r"[[:word:][:punct:]]*", ["a_1!", "a b"]),
    (r"\d+\s\w+\D\S\W", ["12 ab_- !", "1 a b!", "1\tab  "]),
    (r".", ["a", "\n", "ä", "日", ""]),
    (r"(?s).", ["\n", "a"]),
    (r"(?i)straße|KELVIN", ["STRAßE", "kelvin", "\u212aelvin", "STRASSE"]),
    (r"(?i:a)b", ["Ab", "AB"]),
    (r"(?i)[k-m]+", ["KLM", "\u212a", "n"]),
    (r"(?i)[^k]", ["K", "k", "\u212a", "x"]),
    (r"a(?i)b|c", ["aB", "C", "AB"]),
    (r"(?i)a(?-i)b", ["Ab", "AB"]),
    (r"^a$", ["a", "a\n"]),
    (r"(?m)^a$\n^b$", ["a\nb", "ab"]),
    (r"\Aab\z", ["ab", "abc"]),
    (r"\bword\b.*\Bx", ["word abx", "word x", "wordx"]),
    (r"\pL+\p{Nd}\PL\p{^Lu}", ["aä1!x", "Ж9-Q", "Ж9-q"]),
    (r"[\p{Lu}\d_]+", ["AZ9_Ä", "a"]),
    (r"[^\pL]+", ["123", "a1"]),
    (r"\x41\x{1F600}\101\t\.\*", ["A\U0001f600A\t.*", "A"]),
    (r"\Qa.b*\E+", ["a.b*", "a.b**", "axb*"]),
    (r"(?P<year>\d{4})-(?<month>\d\d)", ["2024-05", "24-05"]),
    (r"(?:a|b)+(?:c)", ["abac", "c"]),
    (r"(\w[\w\.\-]+)@([\w\-]+\.)+\w{2,}", ["account@gmail.com", "account@hotmail.com", "not email", "yy@b.c"]),
    (r"(x+x+)+y", ["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "xxxxxxxxxxxy"]),
    (r"\a\f\v\r\n", ["\a\f\v\r\n"]),
    (r"[\d\-x]{3}", ["1-x", "y-1"]),
    (r"(|a)+", ["aaa", ""]),
    (r"(?U)a+", ["aa"]),
    (r"(?i)\W", ["\u212a", "\u017f", "k", "ä", "-"]),
    (r"(?i)[\W_]|\D", ["\u212a", "_", "7"]),
    (r"(?i)[[:^alpha:]]", ["\u212a", "\u017f", "1", "a"]),
    (r"(?i)\w", ["\u212a", "\u017f", "é"]),
]
WRONG = [
    "a**",
    "(a",
    "a)",
    "[a",
    "*a",
    "a{2,1}",
    "a{1001}",
    "(a{100}){100}",
    r"\1",
    r"(?=a)",
    r"(?<!a)",
    "[b-a]",
    r"\p{Nope}",
    r"\8",
    "[[:nope:]]",
    "a\\",
    r"\x{110000}",
    "(?P<a",
    "(?z)",
    r"\_",
]


def regex(add):
    for pattern, texts in PATTERNS:
        add("RegexFullMatch", 20, [text(texts)], pattern=pattern)
    add("RegexFullMatch", 20, [text([["a", "b"], ["", "a"]])], pattern="a")
    for pattern in WRONG:
        add.fails(
            "LIMIT" if "100}" in pattern else "UNSUPPORTED" if pattern in (r"\1", r"\p{Nope}") else "FORMAT",
            "RegexFullMatch",
            20,
            [text(["a"])],
            pattern=pattern,
        )
    # RE2 has these; they are refused by name
    add.fails("UNSUPPORTED", "RegexFullMatch", 20, [text(["a"])], pattern=r"\C")
    add.fails("UNSUPPORTED", "RegexFullMatch", 20, [text(["a"])], pattern=r"\p{Greek}")
    add.fails("TYPE", "RegexFullMatch", 20, [np.zeros(1, np.float32)], pattern="a")


def tfidf(add):
    ints = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int64)
    pool = dict(ngram_counts=[0, 4], ngram_indexes=[0, 1, 2, 3, 4, 5, 6], pool_int64s=[2, 3, 5, 4, 5, 6, 7, 8, 6, 7])
    for mode in ("TF", "IDF", "TFIDF"):
        for low, high, skip in ((1, 1, 0), (2, 2, 0), (1, 2, 0), (2, 2, 5), (1, 2, 3)):
            add(
                "TfIdfVectorizer",
                9,
                [ints],
                mode=mode,
                min_gram_length=low,
                max_gram_length=high,
                max_skip_count=skip,
                weights=[0.5, 1.5, 2.0, 3.0, 0.25, 1.0, 7.0],
                **pool
            )
    add(
        "TfIdfVectorizer",
        9,
        [ints.astype(np.int32)[0]],
        mode="TF",
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=1,
        **pool
    )
    names = dict(ngram_counts=[0, 2, 4], ngram_indexes=[3, 0, 1, 2], pool_strings=["a", "b", "a", "b", "a", "b", "a"])
    add(
        "TfIdfVectorizer",
        9,
        [text(["a", "b", "a", "x", "a"])],
        mode="TF",
        min_gram_length=1,
        max_gram_length=3,
        max_skip_count=1,
        **names
    )
    add(
        "TfIdfVectorizer",
        9,
        [text([["a", "b"], ["", "a"]])],
        mode="TF",
        min_gram_length=1,
        max_gram_length=3,
        max_skip_count=0,
        **names
    )
    add(
        "TfIdfVectorizer",
        9,
        [np.zeros((2, 0), np.int64)],
        mode="TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        **pool
    )
    add.fails(
        "FORMAT",
        "TfIdfVectorizer",
        9,
        [ints],
        mode="TF",
        min_gram_length=1,
        max_gram_length=3,
        max_skip_count=0,
        **pool
    )
    add.fails(
        "TYPE",
        "TfIdfVectorizer",
        9,
        [text(["a"])],
        mode="TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        **pool
    )


TOKENS = [  # leftmost matches, and of those the longest
    r"[a-zA-Z0-9_]+",
    r".",
    r"\b\w\w+\b",
    r"a|ab|abc",
    r"abc|ab|a",
    r"a+?",
    r"(?U)a+",
    r"x*",
    r"(a|b)*?c",
    r"\d{2,3}?",
    r"^\w+",
    r"\w+$",
    r"(?i)[k-m]+",
    r"\B\w",
]


def tokenizer(add):
    ms = {"domain": "com.microsoft"}
    words = text(["The cat, the dog_2", "", "abcabaab c 1234567", "KLmxx kélvin", "x", " . "])
    for pattern in TOKENS:
        add("Tokenizer", 1, [words], tokenexp=pattern, mark=0, mincharnum=1, pad_value="#", **ms)
    add("Tokenizer", 1, [words[:4].reshape(2, 2)], tokenexp=r"\w+", mark=1, mincharnum=3, pad_value="", **ms)
    for separators in ([" "], [", ", " "], ["a+", r"\s"], ["x*"], ["[.,]", "b|ab"]):
        add("Tokenizer", 1, [words], separators=separators, mark=0, mincharnum=1, pad_value="#", **ms)
        add("Tokenizer", 1, [words], separators=separators, mark=1, mincharnum=2, pad_value="#", **ms)
    add("Tokenizer", 1, [words], separators=[""], mark=0, mincharnum=1, pad_value="#", **ms)
    add("Tokenizer", 1, [words[:2]], separators=[""], mark=1, mincharnum=1, pad_value="#", **ms)
    add("Tokenizer", 1, [text(["", ""])], separators=[""], mark=1, mincharnum=1, pad_value="#", name="nothing", **ms)
    add.fails("FORMAT", "Tokenizer", 1, [words], separators=[""], mark=0, mincharnum=2, pad_value="#", **ms)
    add.fails("FORMAT", "Tokenizer", 1, [words], tokenexp="(", mark=0, mincharnum=1, pad_value="#", **ms)


def build(add):
    for group in (concat, split, normalizer, regex, tfidf, tokenizer):
        group(add)
