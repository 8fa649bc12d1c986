"""The legacy encoding of member names, chosen for all names of an archive together.

Short names are valid in many encodings. The score of an encoding is the mean score of the non-ASCII characters in
all decoded names. A character scores high if it is frequent in titles and page names of the encoding's languages. One
clear name can therefore decide the encoding of ambiguous names.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LEGACY_ENCODINGS: Final = (
    "cp932", "gb18030", "big5hkscs", "cp949", "cp1251", "cp866", "koi8-r", "cp1252", "cp1250", "cp850", "cp852", "cp437",
)  # fmt: skip
"""Encodings in which old archivers write names. If two have the same score, the earlier one is used."""
_MIN_LEAD: Final = 0.08
"""The choice is uncertain if the lead of the best score over the second is smaller."""

_CHINESE: Final = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成"
    "方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工"
    "使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表"
    "化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结"
    "反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难"
    "且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笔页卷册章集漫画彩封"
    "底目录版番外篇完结终附图序言后记龙英雄少年少女猫狼鬼剑魔法师火影忍者海贼死神星空夜雨雪风花"
)
_TRADITIONAL: Final = (
    "這個們來為國說時會對於著發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問並應戰頭體見產話內給門兒東聲員論處義認條"
    "氣題爾別變總電數報結務場計資許統區隊決馬書則聽達強難權設記類據邊張該規萬領確傳師觀讓識帶導爭運筆頁冊畫錄圖終龍貓劍風"
    "第一二三四五六七八九十回卷話集章封面漫畫彩頁番外篇完結大小人中上下不是我你他天地日月年心生子女男王神魔海山水火金木土"
)
_JAPANESE: Final = (
    "日一人大年会国本中長出三同時政事自行社月分議後前民生連五発間対上部東者党地合市業内相方四定今回新場金員九入選立開手米力学問"
    "高代明実円関決子動京全目表戦経通外最言氏現理調体化田当八六約主題下首意法不来作性的要用制治度務強気小七成期公野協取都和統以"
    "機平総加山思家話世受区領多県続進正安設保改数記院女初北午指権心界支第産結百派点教報済書府活原先共得解名交資予川向際査勝面委"
    "告軍文反元重近千考判認画海参売利組知案道信策集在件団別物側任引使求所次水半品昨論計死官増係感特情投示変打男基私各始島直両朝"
    "革価式確村提運終挙果西勢減台広容必応演電歳住争談能無再位置企真流格有疑口過局少放税検藤町常校料沢裁状工建語球営空職証土与急"
    "止送援供可役構木割聞身費付施切由説転食比難防補車優夫研収断井何南石足違消境神番規術護展態導鮮備宅害配副算視条幹独警宮究育席"
    "巻話章頁号編漫画表紙裏扉帯目次全上下前後巨進撃竜龍猫鬼滅刃剣魔法少女少年姫王星夜雨雪風花春夏秋冬恋愛"
)
_KOREAN: Final = (
    "이다는의에가을로고한하지사인도은기리아나자시를라스정일들서어수대해으그제원부전과장주상보동게안성구유비조공여신선국지만화오무학"
    "치경마트미우모소세들관양중개식방생현있것적용재실계연권간분물회관문등년월명민영단위반면진행당두입내용강와노말타니드러려바코"
    "크파카호거터람래려저처체초츠친키토통티팀판페편포표프피필했희각감같개건검격결고곡골광교군궁귀글금급길김까꽃꿈끝날남너년"
    "눈님달담답더던독돌될때또란랑량력령론룡루류른름릭린림막만많맛망매머먼멸모목못몽묘문밀박발밤배백번벌범법변별병복본봄북불"
    "붉블빛빠빨뻐사산살삼새색생석설섬섯속손송순술숨슈승심싸쌍씨악알암압애액야약언얼업없엘여역연열염영예옥온옷왕왜외요욕원웹"
    "은음읽임잔잡재절점접정존종좋죄죽줄즈증직질집짝참창책척천철첫청최추축춤충칠침칼커컬케콜쿠큰클탄탈태택테텔투특티퍼폭푸풀"
    "품풍학함합항햇행향허헌험혁혈협형혼홍환활황효훈휴흑흥힘권화편제장쪽표지만화책"
)
_WESTERN: Final = {
    **dict.fromkeys("éèàçñöäüßáíóúêâôîûãõåøæÉÖÄÜ", 1.0), **dict.fromkeys("ëïùœÀÈÇÑÅØÆÁÓÍÚÊ", 0.7), **dict.fromkeys("ìòýÿŒÂÎÔÛË", 0.3),
    **dict.fromkeys("¡¿°º«»©®·–—’‘“”…", 0.4),
}  # fmt: skip
_CENTRAL: Final = {
    **dict.fromkeys("áíéěščřžýůúółąęśćżźńőűöüäđ", 1.0), **dict.fromkeys("ČŠŘŽŁŚŻÁÉÍÓÖÜ", 0.8),
    **dict.fromkeys("şţâăîťďňľôßÄŮÚĚŤĎŇÝĆŹŃĄĘŐŰĐçë", 0.6), **dict.fromkeys("°«»©®·–—’‘“”…„", 0.4),
}  # fmt: skip
_RUSSIAN: Final = {
    **dict.fromkeys("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё", 1.0), **dict.fromkeys("ОЕАИНТСРВЛКМДПУЯГЗБЧЙХЖШЮЦЩЭФ", 0.8),
    **dict.fromkeys("іїєґъІЇЄЁЫЬЪ", 0.5), **dict.fromkeys("№«»–—“”…", 0.4),
}  # fmt: skip
_BY_SCRIPT: Final = {
    "cp1251": _RUSSIAN, "cp866": _RUSSIAN, "koi8-r": _RUSSIAN, "cp1252": _WESTERN, "cp850": _WESTERN, "cp437": _WESTERN,
    "cp1250": _CENTRAL, "cp852": _CENTRAL,
}  # fmt: skip
_UNLIKELY_CASE: Final = re.compile("[a-zà-öø-ÿā-žа-яё](?=[À-ÖØ-ÞА-ЯЁ])|(?<=[À-ÖØ-ÞА-ЯЁ])[а-яё](?=[А-ЯЁ])")
"""A capital after a lower-case letter, or a lower-case Cyrillic letter between two capitals: a sign of a wrong encoding."""
_MIXED_SCRIPTS: Final = re.compile("[A-Za-z](?=[\u0400-\u04ff])|[\u0400-\u04ff](?=[A-Za-z])")
"""A Cyrillic letter next to a Latin one: a sign that an accented Latin letter was decoded as Cyrillic."""
_ACCENTED_RUN: Final = re.compile("(?<=[\u00c0-\u017f]{2})[\u00c0-\u017f]")
"""The third accented letter in a row: a sign of a word in another script."""
_UNLIKELY_COST: Final = 0.5
"""Subtracted from the sum of the character scores for each match of the three patterns above."""
_RARE_CHARACTER_SCORE: Final = -0.6
"""Score of a character that is expected in no name."""


@dataclass(frozen=True)
class NameEncoding:
    """The encoding of the names of an archive."""

    encoding: str
    doubtful: bool
    """Is the lead over the second-best encoding smaller than `_MIN_LEAD`?"""


def decide_encoding(raw: Sequence[bytes]) -> NameEncoding:
    """The encoding of all names: UTF-8 if all are valid UTF-8, otherwise the legacy encoding with the highest score."""
    if _decode_all(raw, "utf-8") is not None:
        return NameEncoding("utf-8", doubtful=False)
    non_ascii = [name for name in dict.fromkeys(raw) if not name.isascii()]
    scores: dict[str, tuple[float, str]] = {}
    for encoding in LEGACY_ENCODINGS:
        text = _decode_all(non_ascii, encoding)
        if text is not None and text not in scores:  # the same text in another encoding is not an alternative
            scores[text] = (_score_text(text, encoding), encoding)
    ranked = sorted(scores.values(), key=lambda one: -one[0])
    doubtful = len(ranked) > 1 and ranked[0][0] - ranked[1][0] < _MIN_LEAD
    return NameEncoding(ranked[0][1], doubtful)


def _decode_all(names: Sequence[bytes], encoding: str) -> str | None:
    try:
        return "\n".join(name.decode(encoding) for name in names)
    except UnicodeDecodeError:
        return None


def _score_text(text: str, encoding: str) -> float:
    """The mean score of the non-ASCII characters: about 1 for text of a language, below 0 for noise."""
    counts = Counter(text)
    non_ascii = {character: count for character, count in counts.items() if ord(character) > 0x7F}
    if not non_ascii:
        return 0.0
    frequent = _frequent_characters(encoding)
    total = sum(
        count * frequent.get(one, _score_rare_character(one, encoding)) for one, count in non_ascii.items()
    )
    total -= _UNLIKELY_COST * sum(
        len(pattern.findall(text)) for pattern in (_UNLIKELY_CASE, _MIXED_SCRIPTS, _ACCENTED_RUN)
    )
    return total / sum(non_ascii.values())


@lru_cache
def _frequent_characters(encoding: str) -> dict[str, float]:
    if encoding == "gb18030":
        return dict.fromkeys(_CHINESE, 1.0)
    if encoding == "big5hkscs":
        return dict.fromkeys(_TRADITIONAL + _CHINESE, 1.0)
    if encoding == "cp932":
        return dict.fromkeys(_JAPANESE, 1.0)
    if encoding == "cp949":
        return dict.fromkeys(_KOREAN, 1.0)
    return _BY_SCRIPT[encoding]


def _score_rare_character(character: str, encoding: str) -> float:
    """The score of a character that is not among the frequent ones of the encoding."""
    code = ord(character)
    if 0x3040 <= code <= 0x30FF:
        return 1.0 if encoding == "cp932" else 0.3
    if 0xFF61 <= code <= 0xFF9F:
        return 0.7
    if 0xAC00 <= code <= 0xD7A3:
        return 0.55 if _two_bytes_in(character, "euc_kr", 0xB0, 0xC8) else -0.3
    if 0x4E00 <= code <= 0x9FFF:
        return _score_ideograph(character, encoding)
    if 0xFF01 <= code <= 0xFF5E or 0x3000 <= code <= 0x301F:
        return 0.6
    return _RARE_CHARACTER_SCORE


def _score_ideograph(character: str, encoding: str) -> float:
    """The score of an ideograph. Level 1 of each standard contains the more frequent characters."""
    if encoding == "gb18030":
        return 0.55 if _two_bytes_in(character, "gb2312", 0xB0, 0xD7) else 0.0
    if encoding == "big5hkscs":
        return 0.55 if _two_bytes_in(character, "big5", 0xA4, 0xC6) else 0.0
    if encoding == "cp932":
        return 0.55 if _two_bytes_in(character, "shift_jis", 0x88, 0x97) else 0.0
    return 0.1


def _two_bytes_in(character: str, encoding: str, first: int, last: int) -> bool:
    try:
        data = character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return len(data) == 2 and first <= data[0] <= last
