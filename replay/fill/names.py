"""Names of nobody in many scripts: with accents, from right to left, without spaces, and long."""

# ruff: noqa: RUF001  # each name in its own script

import random
import unicodedata
from typing import NamedTuple


class Region(NamedTuple):
    locale: str
    zone: str
    currency: str
    form: str  # of a person's name
    given: tuple[str, ...]
    family: tuple[str, ...]
    trades: tuple[str, ...]  # forms of an organisation's name
    weight: int  # how many of a hundred customers live there


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_WEST = "{given} {family}"
_EAST = "{family}{given}"

REGIONS = (
    Region(
        *("en", "Europe/London", "GBP", _WEST),
        _words(
            "Alice Ben Clara Daniel Emma Frank Grace Henry Isla Jack Kezia Liam Maya Noah Olive "
            "Poppy Quinn Rosa Saul Tessa Una Victor Wren Yusuf Zara Agnes Bruno Cleo Dermot Edith"
        ),
        _words(
            "Archer Baker Carter Dawson Ellwood Fletcher Granger Harper Ingram Jessop Kirkwood "
            "Lockhart Mason Nightingale Osborne Porter Quigley Redfern Sawyer Turner Underhill "
            "Vaughan Whitlock Yardley Ashdown Blackwell Cranford Dunmore Eastgate Farrow"
        ),
        ("{family} Bakery", "{family} & {other}", "{family} Logistics Ltd", "{family} Studio"),
        34,
    ),
    Region(
        *("pt-BR", "America/Sao_Paulo", "BRL", _WEST),
        _words(
            "Ana Bruno Camila Diego Elisa Felipe Helena Igor Júlia Lucas Mônica Natália Otávio "
            "Patrícia Ramón Sílvia Thaís Vinícius Wagner João Letícia Márcia Inês Caetano"
        ),
        _words(
            "Almeida Barbosa Cardoso Duarte Farias Gonçalves Lopes Moreira Rocha Souza Araújo "
            "Guimarães Magalhães Conceição Assunção Nóbrega Paixão Simões Vilhena Trindade"
        ),
        ("Padaria {family}", "{family} e Irmãos", "Oficina {family} Ltda", "Livraria {family}"),
        20,
    ),
    Region(
        *("de", "Europe/Berlin", "EUR", _WEST),
        _words(
            "Änne Björn Cäcilie Dörte Emil Frieda Günther Hanna Ilse Jürgen Käthe Lukas Mareike "
            "Nils Özlem Paul Renate Sören Thea Ulf Vera Wiebke Xaver Yvonne Zoë"
        ),
        _words(
            "Ackermann Böttcher Dürr Eßer Größmann Hübner Jäger König Löwe Müller Nußbaum Öhler "
            "Pfäffle Röder Schäfer Tränkle Überall Völker Weiß Zöllner Bärenreiter Fährmann"
        ),
        ("Bäckerei {family}", "{family} & Söhne GmbH", "Gärtnerei {family}", "Buchladen {family}"),
        14,
    ),
    Region(
        *("pl", "Europe/Warsaw", "PLN", _WEST),
        _words("Łukasz Żaneta Błażej Świętosława Zdzisław Bożena Jędrzej Małgorzata Paweł Grażyna"),
        _words("Wąs Źrebiec Ćwikła Łoś Żółw Gżegżółka Śliwa Dębowy Brzęczyszczykiewicz Kołodziej"),
        ("Piekarnia {family}", "{family} i Wspólnicy", "Zakład {family}"),
        6,
    ),
    Region(
        *("vi", "Asia/Ho_Chi_Minh", "VND", "{family} {given}"),
        ("Văn Đức", "Thị Hồng", "Minh Châu", "Quốc Bảo", "Ngọc Ánh", "Hữu Phước", "Thúy Kiều"),
        _words("Nguyễn Trần Đặng Phạm Huỳnh Võ Đỗ Bùi Lý"),
        ("Công ty {family}", "Tiệm bánh {family}"),
        4,
    ),
    Region(
        *("ru", "Europe/Belgrade", "EUR", _WEST),
        _words("Алёна Борис Вера Глеб Дарья Егор Жанна Илья Ксения Лев Мария Николай Ольга Пётр"),
        _words("Берёзов Воронцова Голубев Дроздова Ершов Журавлёва Зимин Крылова Лебедев Орлова"),
        ("Пекарня {family}", "Мастерская {family}"),
        5,
    ),
    Region(
        *("el", "Europe/Athens", "EUR", _WEST),
        _words("Αλέξανδρος Βασιλική Γιώργος Δήμητρα Ελένη Θεόδωρος Ιωάννα Κώστας Μαρία Χρήστος"),
        _words("Αγγελόπουλος Βλάχου Γεωργίου Δημητρίου Καραγιάννης Μακρή Οικονόμου Παππά"),
        ("Φούρνος {family}", "{family} ΑΕ"),
        3,
    ),
    Region(
        *("ar", "Africa/Cairo", "EGP", _WEST),
        _words("أحمد فاطمة خالد ليلى محمود نور سارة يوسف زينب عمر هدى مريم طارق سلمى"),
        _words("المصري الحداد النجار الخطيب الشامي العطار البنا السقا الفران الصياد"),
        ("مخبز {family}", "شركة {family}"),
        4,
    ),
    Region(
        *("he", "Asia/Jerusalem", "ILS", _WEST),
        _words("אבנר דבורה יעל משה נועה עמית רבקה שירה תמר אורי"),
        _words("אלמוג ברקת גולן דרור הדס זהבי כרמלי נחמיאס רימון שקד"),
        ("מאפיית {family}", "{family} ובניו"),
        2,
    ),
    Region(
        *("ja", "Asia/Tokyo", "JPY", _EAST),
        _words("太郎 花子 健太 さくら 翔 美咲 大輔 陽菜 直樹 葵 拓也 結衣 サトシ ユミ"),
        _words("佐藤 鈴木 高橋 田中 渡辺 伊藤 山本 中村 小林 加藤 五十嵐 長谷川"),
        ("{family}商店", "株式会社{family}", "{family}パン工房"),
        4,
    ),
    Region(
        *("zh", "Asia/Taipei", "TWD", _EAST),
        _words("伟 芳 秀英 敏 静 丽 强 磊 洋 艳 勇 杰 娟 涛 明 超 霞 平"),
        _words("王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 欧阳 司马"),
        ("{family}记面馆", "{family}氏贸易有限公司"),
        2,
    ),
    Region(
        *("ko", "Asia/Seoul", "KRW", _EAST),
        _words("민준 서연 지훈 하은 도윤 수아 예준 지우 현우 다은"),
        _words("김 이 박 최 정 강 조 윤 장 임 남궁 황보"),
        ("{family}상회", "주식회사 {family}"),
        2,
    ),
)
_WEIGHTS = [region.weight for region in REGIONS]
_LONGEST = 200  # characters
_LONG = 0.002  # of the customers have a very long name


def region(dice: random.Random) -> Region:
    return dice.choices(REGIONS, _WEIGHTS)[0]


def name(dice: random.Random, home: Region, *, organisation: bool) -> str:
    family, other = dice.choice(home.family), dice.choice(home.family)
    if organisation:
        made = dice.choice(home.trades).format(family=family, other=other)
    else:
        made = home.form.format(given=dice.choice(home.given), family=family)
        if home.form is _WEST and dice.random() < 0.25:
            made = f"{made}-{other}"
    if dice.random() < _LONG:
        made = " ".join([made, *(dice.choice(home.family) for _ in range(30))])[:_LONGEST].rstrip()
    return made


def mailbox(made: str) -> str:
    """The part before the @: the name in plain letters, empty where it has none."""
    plain = unicodedata.normalize("NFKD", made).encode("ascii", "ignore").decode().lower()
    return ".".join("".join(c if c.isalnum() else " " for c in plain).split())[:30].strip(".")
