"""Texts of simulated customers, assembled at random from banks of phrases.

A text is an opening, a core and perhaps an aside, in a style. The core of a complaint is about an aspect with a
severity; the core of a praise is about an aspect. Negations ("not late at all") and mixed opinions ensure that single
words do not separate complaints from praise.
"""

from dataclasses import dataclass

import numpy as np

ASPECTS = ("delivery", "quality", "price", "service", "returns")
SEVERITIES = ("mild", "medium", "severe")


@dataclass(frozen=True)
class Bank:
    """Phrases of one language; ``{item}``, ``{days}`` and ``{name}`` are filled in."""

    items: tuple[str, ...]
    names: tuple[str, ...]
    openings: tuple[str, ...]
    asides: tuple[str, ...]
    endings: dict[str, tuple[str, ...]]
    complaints: dict[str, dict[str, tuple[str, ...]]]
    praises: dict[str, tuple[str, ...]]
    neutral: tuple[str, ...]
    joiners: tuple[str, ...]
    space: str


ENGLISH = Bank(
    items=("jacket", "lamp", "kettle", "pair of shoes", "backpack", "blanket", "headphones", "mug", "chair", "watch"),
    names=("Anna", "Tom", "Mr. Lee", "the agent", "someone called Kim"),
    openings=(
        "",
        "",
        "Ordered a {item}.",
        "Bought the {item} for my sister.",
        "Second time I order here.",
        "So, the {item}.",
        "Got the {item} last week.",
        "My honest opinion:",
    ),
    asides=(
        "The box was green.",
        "It rained that day.",
        "My dog likes it.",
        "We live on the fourth floor.",
        "Was a present for a birthday.",
        "I usually buy these in town.",
        "The photo on the site is nice.",
    ),
    endings={
        "mild": ("Not a big deal.", "I can live with it.", "No harm done.", "Otherwise fine.", ""),
        "medium": ("Not happy.", "Expected more.", "I hope this gets better.", "A pity.", ""),
        "severe": (
            "I am done with this shop.",
            "Never again.",
            "This was the last time.",
            "I will look elsewhere from now on.",
            "Unacceptable.",
            "",
            "",
        ),
    },
    complaints={
        "delivery": {
            "mild": (
                "the parcel came a day later than promised",
                "delivery took slightly longer than expected",
                "tracking was a bit vague, but it came",
            ),
            "medium": (
                "the {item} arrived more than a week late",
                "I waited {days} days for something that should take three",
                "the courier left it at the wrong house and I had to go and find it",
            ),
            "severe": (
                "the {item} never turned up and nobody can say where it is",
                "{days} days of waiting, then a message that the parcel is lost",
                "it came a month late, after the birthday it was meant for",
                "they delivered somebody else's order and mine is gone",
            ),
        },
        "quality": {
            "mild": (
                "one seam is a little crooked",
                "the colour is slightly different from the picture",
                "there is a tiny scratch on the back",
            ),
            "medium": (
                "the zip of the {item} gets stuck all the time",
                "the material feels thin and cheap",
                "after a few weeks it looks like it is years old",
            ),
            "severe": (
                "the {item} fell apart on the second day",
                "it arrived broken, and so did the replacement",
                "it stopped working after one use and smells of burnt plastic",
                "I cut my hand on a sharp edge of the {item}",
            ),
        },
        "price": {
            "mild": (
                "a little dearer than last year",
                "shipping could be cheaper",
                "I have seen it for a bit less",
            ),
            "medium": (
                "the price went up twice since spring",
                "I paid more than the site said at first",
                "for this money I expected something better",
            ),
            "severe": (
                "they charged me twice and call it a mistake",
                "a week after I paid in full it cost half, and they refuse to do anything",
                "the price nearly doubled overnight, that is a rip-off",
                "hidden fees on top of hidden fees",
            ),
        },
        "service": {
            "mild": (
                "the reply took two days",
                "I had to explain my question twice",
                "the chat was busy at first",
            ),
            "medium": (
                "{name} sent me the same standard answer three times",
                "I was on hold for almost an hour",
                "nobody called back although it was promised",
            ),
            "severe": (
                "{name} shouted at me and hung up",
                "I wrote {days} times and nobody answered",
                "they closed my case without solving anything and blocked me",
                "I was called a liar by {name}",
            ),
        },
        "returns": {
            "mild": (
                "it runs half a size small",
                "printing the return label was a bit fiddly",
                "the fit is a touch loose",
            ),
            "medium": (
                "wrong size although I followed the chart",
                "I had to pay for sending it back",
                "the exchange took {days} days",
            ),
            "severe": (
                "{days} days since I sent it back and still no refund",
                "they say my return never arrived, although I have the receipt",
                "they refuse to take the wrong size back",
                "I got the wrong size three times in a row",
            ),
        },
    },
    praises={
        "delivery": (
            "it was here the next morning",
            "not late at all, even a day early",
            "delivery was quick and the courier friendly",
            "I was afraid it would not come in time, but it did",
        ),
        "quality": (
            "the {item} is well made and feels solid",
            "I expected it to break, it has not",
            "nothing wobbles, nothing scratches, lovely work",
            "even after {days} days of use it looks new",
        ),
        "price": (
            "a fair price for what you get",
            "cheaper than anywhere else and not worse",
            "worth every penny",
            "no hidden fees, for once",
        ),
        "service": (
            "{name} answered within minutes and was kind",
            "I was rude myself, I admit, and {name} stayed patient",
            "support solved my problem at once",
            "nobody shouted, nobody hung up, just help",
        ),
        "returns": (
            "the size is exactly right",
            "the refund was there the next day",
            "sending it back was no trouble at all",
            "fits as if made for me",
        ),
    },
    neutral=(
        "it is a {item}, it does what it should",
        "as described",
        "nothing special",
        "okay",
        "arrived, used it, fine",
        "have not tried it yet",
    ),
    joiners=(", but ", "; still, ", ". On the other hand, ", ", although "),
    space=" ",
)

CHINESE = Bank(
    items=("外套", "台灯", "水壶", "鞋子", "背包", "毯子", "耳机", "杯子", "椅子", "手表"),
    names=("小王", "李经理", "客服", "一位女客服"),
    openings=(
        "",
        "",
        "买了一个{item}。",
        "给我妈买的{item}。",
        "第二次在这家买。",
        "说说这个{item}。",
        "上周收到的{item}。",
    ),
    asides=("盒子是绿色的。", "那天下雨。", "我家猫很喜欢。", "我们住四楼。", "是生日礼物。", "图片挺好看的。"),
    endings={
        "mild": ("问题不大。", "可以接受。", "其他都好。", ""),
        "medium": ("不太满意。", "有点失望。", "希望改进。", ""),
        "severe": ("再也不来了。", "最后一次在这里买。", "以后去别家。", "无法接受。", ""),
    },
    complaints={
        "delivery": {
            "mild": ("比承诺晚了一天", "物流稍微慢了点", "物流信息不太清楚，不过还是到了"),
            "medium": ("{item}晚到了一个多星期", "等了{days}天才到", "快递送错了地址，我自己去找回来的"),
            "severe": ("{item}一直没到，谁也说不清在哪里", "等了{days}天，最后说包裹丢了", "晚了一个月，生日早过了"),
        },
        "quality": {
            "mild": ("有一处线头", "颜色和图片有一点差别", "背面有个小划痕"),
            "medium": ("{item}的拉链总是卡住", "料子又薄又廉价", "用了几周就像旧的一样"),
            "severe": ("{item}第二天就散架了", "收到就是坏的，换的也是坏的", "用了一次就不能用了，还有焦味"),
        },
        "price": {
            "mild": ("比去年贵了一点", "运费可以再便宜些", "别处见过便宜一点的"),
            "medium": ("春天以来涨了两次价", "付的钱比页面上写的多", "这个价钱我期待更好的"),
            "severe": ("重复扣款，还说是系统错误", "刚付完钱就半价，他们什么也不肯做", "一夜之间几乎翻倍，太坑了"),
        },
        "service": {
            "mild": ("两天才回复", "同一个问题说了两遍", "一开始客服占线"),
            "medium": ("{name}三次都发同样的模板", "电话等了快一个小时", "说好回电却没有回"),
            "severe": ("{name}对我大喊还挂了电话", "我写了{days}次都没人理", "问题没解决就关了工单，还把我拉黑"),
        },
        "returns": {
            "mild": ("偏小半码", "打印退货单有点麻烦", "稍微有点松"),
            "medium": ("按尺码表买的还是不对", "退货要自己付运费", "换货花了{days}天"),
            "severe": ("退回去{days}天了还没退款", "他们说没收到退货，我有凭证", "尺码错了三次"),
        },
    },
    praises={
        "delivery": (
            "第二天早上就到了",
            "一点都不晚，还提前了一天",
            "物流很快，快递员也客气",
            "本来担心来不及，结果准时到了",
        ),
        "quality": (
            "{item}做工好，很结实",
            "以为会坏，结果没有",
            "没有晃动也没有划痕，做得很好",
            "用了{days}天还像新的",
        ),
        "price": ("价格公道", "比别家便宜，质量也不差", "物有所值", "没有隐藏费用"),
        "service": ("{name}几分钟就回复了，很亲切", "我自己态度不好，{name}还是很耐心", "客服马上解决了问题"),
        "returns": ("尺码正好", "第二天就退款了", "退货一点也不麻烦", "像量身定做的"),
    },
    neutral=("就是个{item}，能用", "和描述一样", "没什么特别的", "还行", "收到了，还没用"),
    joiners=("，但是", "；不过", "。另一方面，", "，虽然"),
    space="",
)

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}


def complaint(bank: Bank, aspect: str, severity: str, rng: np.random.Generator) -> str:
    """Write about an incident; a third of the texts also praise something else."""
    core = _pick(bank.complaints[aspect][severity], rng)
    if rng.random() < 0.33:
        other = ASPECTS[int(rng.integers(len(ASPECTS)))]
        if other != aspect:
            core = _pick(bank.praises[other], rng) + _pick(bank.joiners, rng) + core
    return _assemble(bank, core, _pick(bank.endings[severity], rng), rng)


def praise(bank: Bank, rng: np.random.Generator) -> str:
    """Write a positive text."""
    core = _pick(bank.praises[ASPECTS[int(rng.integers(len(ASPECTS)))]], rng)
    return _assemble(bank, core, "", rng)


def neutral(bank: Bank, rng: np.random.Generator) -> str:
    """Write a text without an opinion."""
    return _assemble(bank, _pick(bank.neutral, rng), "", rng)


def _assemble(bank: Bank, core: str, ending: str, rng: np.random.Generator) -> str:
    stop = "." if bank.space else "。"
    parts = [_pick(bank.openings, rng), core[:1].upper() + core[1:] + stop, ending]
    if rng.random() < 0.3:
        parts.insert(int(rng.integers(1, 3)), _pick(bank.asides, rng))
    text = bank.space.join(part for part in parts if part)
    text = text.format(item=_pick(bank.items, rng), days=int(rng.integers(5, 40)), name=_pick(bank.names, rng))
    style = rng.random()
    if bank.space and style < 0.15:
        text = text.lower().rstrip(".")
    elif bank.space and style < 0.2:
        text = text.upper()
    elif style < 0.3:
        text = text.rstrip(".。") + ("!!" if bank.space else "！！")
    return _misspell(text, rng) if rng.random() < 0.2 else text


def _misspell(text: str, rng: np.random.Generator) -> str:
    """Swap two neighbouring characters."""
    if len(text) < 6:
        return text
    at = int(rng.integers(1, len(text) - 2))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _pick(phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]
