"""What marks a number in a text: the patterns of currencies, units, scales, cues and names around its digits."""

import re

LETTER = "A-Za-zÀ-ÖØ-öø-ʯͰ-ԯḀ-ỿ"
END = f"(?![{LETTER}])"
SIGNS = "$€£¥₹₩₽₺₫₴₦₱฿₪₡₲₵₸₿"
CODES = (
    "USD|EUR|GBP|JPY|INR|CNY|RMB|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ARS|CLP|COP|KRW|TRY|RUB|UAH|ZAR"
    "|SGD|HKD|TWD|THB|IDR|VND|PHP|MYR|ILS|AED|SAR|BTC"
)
CURRENCY_WORDS = (
    f"{CODES}|(?:US-)?dollars?|bucks?|euros?|yen|rupees?|rupias?|rupiah|yuan|pesos?|reais|francs?|franken|sterling|quid|kronor"
    "|kroner|krona|kr|zł|zloty(?:ch)?|złotych|złote|kč|korun|(?-i:Ft)|forint|lei|tl|lira|rand|baht|đồng|dollari?"
    "|dólares"
    "|dollaro|долларов|доллара|евро|рублей|рубля|рубль|руб|грн|гривен|euroa|złotówek|riyals?|dirhams?|pounds sterling|đ"
)
CURRENCY_BEFORE = re.compile(
    rf"(?:(?<![{LETTER}])[A-Za-z]{{0,3}}[{SIGNS}]|(?<![{LETTER}])(?:{CODES}|Rs|Rp|RM|(?<![A-Z] )R|kr|Fr|SFr|zł"
    rf"|Kč)\.?) ?$"
)
CURRENCY_AFTER = re.compile(
    rf"\s?(?:[{SIGNS}](?!\d)|[日美欧港台]?[円圓元]|[美欧日]元|块钱?|원|ドル|ユーロ|ポンド|달러|유로|英镑|卢布"
    rf"|卢比|บาท|रुपये|रुपए"
    rf"|ريال|دولار|درهم|جنيه|-?(?:{CURRENCY_WORDS}){END})",
    re.IGNORECASE,
)
POINT_THOUSANDS = re.compile(
    r"€|₫|₺|R\$|\b(?:eur|euros?|kr|kronor|kroner|nok|dkk|rp|idr|rupiah|vnd|đồng|reais|brl|tl|clp|cop|lei|ft|huf"
    r"|forint|đ"
    r"|kč|czk|zł|pln|руб|грн|pesos|dólares|dollari|(?-i:(?:US-)?Dollar))\b",
    re.IGNORECASE,
)
"""Currencies whose countries write thousands with a point: there `1.234` is no decimal."""
CENTS = re.compile(
    rf"\s?-?(?:¢|(?:cents?|centimes?|centavos?|centesimi|pence){END})|(?<=(?<!\d)\d)[pc]{END}"
    rf"|(?<=(?<!\d)\d\d)[pc]{END}",
    re.IGNORECASE,
)
PERCENT = re.compile(rf"\s?(?:%|(?:percent|prozent|pour cent|por ciento|процент\w{{0,3}}){END})", re.IGNORECASE)
UNIT = re.compile(
    r"[ -]?(?:(?:[kmgt]i?b|[kmg]?hz|kg|mg|g|lbs?|pounds?|ounces?|oz|ml|cl|l|liters?|litres?|gal(?:lons?)?"
    r"|[nmck]?m|inch(?:es)?|in(?=\.?\s*(?:[,;:)x×]|$))|ft|feet|foot|yards?|yd|[km]?wh?|watts?|k?cal|mph|psi|rpm"
    r"|dpi|fps|v|volts?|m?ah|px|mp|megapixels?|bits?|cores?|years?|yrs?"
    r"|months?|weeks?|days?|hours?|h|hrs?|minutes?|mins?|seconds?|secs?|packs?|pcs|pieces?|count|sets?|stars?"
    rf"|items?|units?|pages?|x|st|nd|rd|th|people|times|stücke?|jahre?n?|ans|años|лет|шт)(?![{LETTER}\d])|[\"″°]"
    rf"|[個本枚台年月日時分秒歳人件回代])",
    re.IGNORECASE,
)

SCALES = {
    12: "dozen|dutzend|douzaines?|docenas?|dozzine|dúzias?",
    1e2: "hundred",
    1e3: "thousand|grand|tausend|tsd|mille|mil(?! mil[lh])|mila|тыс(?:яч[аи]?)?|tys|tusen|tusind|ribu|rb|bin"
    "|nghìn|हज़ार|हजार|ألف|آلاف|พัน",
    1e5: "lakhs?|lacs?|लाख",
    1e6: "million(?:en|s|i)?|mio|mn|millón|millones|milhão|milhões|milione|milioni|миллион\\w{0,2}|млн"
    "|mln|miljon(?:er)?|juta|triệu|milyon|مليون|ล้าน",
    1e7: "crores?|cr|करोड़",
    1e9: "mil mil(?:lones|hões)|thousand million|billions?|bn|milliarden?|milliards?|mrd|mld|mlrd|md"
    "|миллиард\\w{0,2}|млрд|miliardi?|miljard(?:er)?|milyar|miliar|tỷ",
    1e12: "trillions?|tn|billionen|billones",
}
SCALE_WORD = re.compile(
    r"[ -]?(?:" + "|".join(f"(?P<w{i}>{words})" for i, words in enumerate(SCALES.values())) + rf")\.?{END}",
    re.IGNORECASE,
)
SCALE_LETTER = re.compile(rf"(k|K|m|MM|M|b|B|T|(?<=₹\d)L|(?<=₹\d\d)L){END}|\s?([kKM])(?=[€$£])")
LETTER_SCALES = {"k": 1e3, "K": 1e3, "m": 1e6, "M": 1e6, "MM": 1e6, "b": 1e9, "B": 1e9, "T": 1e12, "L": 1e5}

NUMBER = re.compile(
    r"(?:\d{1,3}(?: \d{3})++(?!\d)(?:[.,]\d++)?+|\d++(?:[.,]\d++|['_]\d{3}(?!\d))*+|(?<![\d.A-Za-z])[.]\d++)"
    rf"(?:(?P<e>[eE][+-]?\d{{1,3}})(?![{LETTER}\d])|\s?(?:[x×*]|\\times)\s?10\s?\^\s?\{{?(?P<power>-?\d{{1,2}})\}}?)?+"
)
EAST = "〇零一二三四五六七八九两兩壱壹弐参十拾百千万萬億亿兆천백십만억조"
EAST_NUMBER = re.compile(rf"[\d{EAST}](?:[\d{EAST}]|[.,](?=\d)|(?<=[천만억]) (?=\d))*+")
EAST_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|.")
EAST_DIGITS = (
    {c: i for i, c in enumerate("〇一二三四五六七八九")}
    | {c: i for i, c in enumerate("영일이삼사오육칠팔구")}
    | {"零": 0, "两": 2, "兩": 2, "壱": 1, "壹": 1, "弐": 2, "参": 3}
)
EAST_SMALL = {"十": 1e1, "拾": 1e1, "십": 1e1, "百": 1e2, "백": 1e2, "千": 1e3, "천": 1e3}
EAST_LARGE = {
    "万": 1e4, "萬": 1e4, "만": 1e4, "億": 1e8, "亿": 1e8, "억": 1e8, "兆": 1e12, "조": 1e12,
}  # fmt: skip

MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}\.?"
NOT_A_NUMBER = re.compile(
    r"(?<![\d.,])(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d{2}))(?![\d.,]*\d)"  # dates
    r"|\d{4}年(?:\d{1,2}月)?(?:\d{1,2}日)?|\d{1,2}月\d{1,2}日"
    rf"|\b{MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b(?![.,]\d)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? {MONTH}(?: \d{{4}})?\b"
    rf"|\b{MONTH} (?:19|20)\d\d\b"
    r"|\b(?:(?:Q[1-4]|[HS][12])[ /-]?(?:FY ?)?|FY ?)(?:(?:19|20)\d\d|'?\d\d)\b|\b(?:19|20)\d\d[ /-]?[QH][1-4]\b"
    r"|\b(?:19|20)\d0'?s\b|\b24/7\b"
    r"|(?<![\w:.,])\d{1,3}:\d{1,2}(?![\w:]|[.,]\d)"  # ratios
    r"|(?<![\d:])\d{1,2}:\d\d(?::\d\d)?(?!\d)|(?<!\d)\d{1,2} ?[ap]\.?m\b"  # times of the day
    r"|(?<![\d.,-])\d++(?:-\d++){2,}"  # numbers of telephones and books
    rf"|\b{DAY}(?: ?(?:[-–,&/]|to|and|through) ?{DAY})*,? ?\d{{1,2}} ?(?:[-–]|to) ?\d{{1,2}}\b"  # opening hours
    rf"|(?<=[{LETTER})])\^\{{?-?\d++\}}?|\b\d{{3}}-0\d{{3}}\b"  # cm², a number of a telephone
    r"|\d*(?:\\sqrt|√)\s?\{?\d++|\d++\s?(?:\\pi|π)"  # of which only a part is in digits
    r"|https?://\S++"
)

RANGE = re.compile(
    r"\s?(?:[-–—~〜～]|\.\.\.?|…|(?:up )?to|bis(?: zu)?|à|až|do|hasta|tot|til|till|hingga|sampai|đến|до|से|ถึง"
    r"|إلى|から|到|至|에서)\s?",
    re.IGNORECASE,
)
RANGE_WITH_A = re.compile(r"\s?(?:a|до|et|and|und|y|e|и|&)\s?", re.IGNORECASE)
BETWEEN = re.compile(
    rf"(?<![{LETTER}])(?:between|zwischen|entre|tra|fra|mellan|mellem|между|from|de|da|von|от)\s*$", re.IGNORECASE
)

FILLER = (
    r"(?:[\s:*_`\"'(\[{~≈≒+-]|(?:is|was|are|be|comes?|would|will|should|could|might|may|likely|probably|of|the|a"
    r"|an|for|at|to"
    r"|about|around|approximately|approx\.?|roughly|nearly|estimated|this|that|it|its|item|product|i'd|just|only|out"
    r"|ist|beträgt|etwa|ca\.?|rund|ungefähr|est|environ|de|es|unos|é|cerca|circa|около|примерно)(?![\w])"
    r"|is|[はがを約是为為약]|だいたい|およそ|大约|约|は)*+$"
)
CUE = re.compile(
    r"(?:\b(?:answer|price[sd]?|costs?|costing|estimate[sd]?|estimation|total(?:s|ing)?|worth|valued?|prediction"
    r"|predict|result"
    r"|say|guess|amount|sells?|sold|retails?|pay|output|preis|kostet|kosten|antwort|prix|coûte|réponse|precio"
    r"|cuesta|vale"
    r"|valor|respuesta|preço|custa|resposta|prezzo|costa|risposta|цена|стоит|стоимость|ответ|pris|kostar|cena"
    r"|svar|antwoord|prijs|odpowiedź"
    r"|cevap|fiyat|hinta|vastaus)(?!\w)"
    r"|価格|値段|答え|回答|答案|价格|售价|가격|정답|السعر|الجواب|कीमत|उत्तर|ราคา|giá)" + FILLER,
    re.IGNORECASE,
)
ANSWER_KEY = re.compile(
    r"answer|price|cost|estimate|total|worth|value|prediction|result|guess|amount|output|score|rating", re.IGNORECASE
)
"""A key of a JSON object under which the answer stands."""
BOXED = re.compile(r"(?:boxed\s*\{[^{}\d]{0,20}|####[^\d\n]{0,10})$")
_CONCLUDES = (
    r"(?:\b(?:final (?:answer|price|estimate)|therefore|thus|hence|so|in total|overall|altogether|in summary|daher|also"
    r"|insgesamt|donc|entonces|por lo tanto|portanto|итого|значит|actually|correction|make that|no,? wait)\b"
    r"|したがって|よって|つまり|すなわち|合計|所以|总共|\bi\.e\.|\bd\. ?h\.|\b(?:in other words|that makes"
    r"|which (?:makes|gives|comes to)|es decir)\b"
    r"|(?:^|\n)[ >*_#-]*(?:(?:grand|estimated|sum) )?(?:total|gesamt(?:preis|summe)?|summe)\b)"
)
CONCLUSION = re.compile(_CONCLUDES + r"[^\d\n.!?]{0,60}$", re.IGNORECASE)
CONCLUDED = re.compile(_CONCLUDES + r"(?:[^\n.!?]|\.(?=\d)){0,60}$", re.IGNORECASE)
"""Likewise with other numbers in between: `so 4 of them are $12`."""
EQUALS = re.compile(r"(?:=|≈|→|=>|\bequals|\bequal to)\s*[*$]{0,3}\s*$")
SOFT = re.compile(
    r"(?:\b(?:is|are|be|about|around|approximately|approx\.?|roughly|nearly|maybe|perhaps|probably|now|for|at"
    r"|etwa|ca\.?|rund|ungefähr"
    r"|environ|unos|circa|около|примерно)|[~≈約は]|大约|约|약|およそ|だいたい)[\s*]*$",
    re.IGNORECASE,
)
ASIDE = re.compile(
    r"\b(?:not|was|were|used to be|originally|formerly|instead of|compared (?:to|with)|than|saves?|saving"
    r"|shipping|deposit|msrp"
    r"|confidence|probability|certainty"
    r"|(?:original|old|previous|regular|former|usual)(?: price)?(?: (?:was|is|were))?"
    r"|list(?: price)?(?: (?:was|is))?)[\s:*\"'=of]*$",
    re.IGNORECASE,
)
NAMED = re.compile(
    rf"(?:^|[\s(])(?P<word>[{LETTER}]*[A-Z][{LETTER}]*(?:'s|\.)?|step|option|item|size|page|version|model"
    r"|error|chapter|section|figure|article|room|route|no\.|#)[ -]?\Z"
)
NO_NAME = re.compile(
    r"(?:about|around|approximately|approx\.?|roughly|nearly|maybe|perhaps|probably|likely|only|just|minus|ca\.?"
    r"|etwa|it|is|the)$",
    re.IGNORECASE,
)
OPENER = re.compile(
    r"(?:\w+(?:ly|mente|ment|weise)|step|option|item|page|prices?|priced|costs?|totals?|sum|amount|value|estimates?|estimated|answer|result"
    r"|output|count|number|score|rating|rank|grade|points|age|year|level|size|weight|height|length|width|depth"
    r"|distance|duration|time|temperature|speed|mileage|quantity|qty|percentage|probability|average|mean|median"
    r"|minimum|min|maximum|max|preis|wert|summe|anzahl|jahr|alter|prix|valeur|année|precio|valor|año|preço|prezzo"
    r"|anno|pris|cena|try|say|yes|no|ok|okay|sure|well|hmm+|um+|so|then|thus|hence|therefore|now|still|and|but|or|if"
    r"|i|you|he|she|we|they|there|these|those|this|that|its|his|her|my|our|your|their|a|an|all|each|every|both|some"
    r"|any|has|have|had|was|are|were|be|got|get|gives?|makes?|needs?|takes?|than|over|under|above|below|between|from"
    r"|up|down|to|at|by|with|within|for|of|in|on|after|before|plus|less|more|most|least|almost|close|circa|near"
    r"|another|exact|rough|your|guess|bet|probable|zirka|fast|knapp|gut|über|unter|mindestens|höchstens|genau|zwischen"
    r"|wohl|vielleicht|environ|presque|plus|moins|entre|autour|vers|peut-être|il|elle|unos|unas|casi|sobre|cerca|tal"
    r"|quasi|forse|quase|uns|umas|talvez|ungefär|cirka|omkring|około|asi|noin|ongeveer|kb|tl)$",
    re.IGNORECASE,
)
"""What may open a sentence before a number that is the answer, and gives it no name: `Price 45`, `Exactly 45`."""
CARDINAL = re.compile(r"\d{1,3}(?:[.]\d{1,2})?|\d{4}")
"""A number as names have them: `Windows 11`, `Python 3.12`, `Route 66`."""
ORDINAL_OF = re.compile(
    r"(?<=\d)(?:st|nd|rd|th) (?!(?:place|position|rank|and|or|in|of|out|among|overall|at|for|with|by|on|is|was|to|as"
    r"|percentile|from)\b)[a-z]{3}"
)
"""After a number that tells which: `2nd generation`, `21st century`."""
MODIFIER = (re.compile(r"\b(?:an?|the|this|your|my|his|her)\s$", re.IGNORECASE), re.compile(r"K [a-z]{3}"))
"""Around a resolution, as in `a 4K monitor`."""
BULLET = re.compile(r"(?:^|\n)[ \t>*-]*$")
ALONE_BEFORE = re.compile(r"[\s*\"'`]*")
ALONE_AFTER = re.compile(r"[ *\"'`.]*(?:\n|$)")
MINUS_WORD = re.compile(
    r"\b(?:minus|negative|(?<!au )(?<!ou )moins|(?<!al )(?<!lo )(?<!pelo )(?<! o )(?<!ou )menos|(?<! o )meno"
    r"|минус|мінус|eksi|miinus)\s$",
    re.IGNORECASE,
)
AND_MORE = re.compile(r"(?<=[\d十百千万萬亿億])[多余餘](?=[元块圆個个人年万萬亿億])")
"""`三千多元`, some more than 3,000."""
MINUS = re.compile(r"(?:マイナス|零下|氷点下|负|負|영하|[△▲])\s?(?=[¥$€£₩]?\d)")
REFUSAL = re.compile(
    r"\b(?:(?:can(?:no|')t|cannot|can not|unable to|not able to|don't|do not|won't|impossible to)"
    r" (?:\w+ ){0,2}(?:determine|provide|give|predict|estimate|know|have|answer|say|help|assist|tell|access|find)"
    r"|as an? (?:ai|language model|llm)|i'?m sorry|sorry,|insufficient information|not enough information"
    r"|not possible to|unknown|not available|unavailable|ich kann (?:\w+ ){0,4}nicht|leider|je ne (?:peux|sais"
    r"|dispose)|désolé"
    r"|no puedo|lo siento|não posso|desculpe|не могу|извините)\b"
    r"|申し訳|すみません|わかりません|分かりません|できません|对不起|抱歉|无法|죄송",
    re.IGNORECASE,
)
FREE = re.compile(
    r"\W*(?:(?:it is|it's|this is) )?(?:free(?: of charge)?|gratis|kostenlos"
    r"|gratuite?|gratuito|бесплатно|無料|免费|무료)\W*",
    re.IGNORECASE,
)
ACCOUNTING = re.compile(
    rf"\s*[{SIGNS}]?\(\s*([{SIGNS}A-Z]{{0,3}}\s?[\d.,' ]{{1,40}}[{SIGNS}A-Z]{{0,3}})\s*\)\s*[{SIGNS}A-Z]{{0,3}}\.?\s*"
)
ACCOUNTED = re.compile(rf"[{SIGNS}A-Z]|\d[.,' ]\d{{3}}")
"""What makes a number in brackets an accountant's: a currency or thousands. `(3)` is a three."""
_LARGE = "|".join(words for scale, words in SCALES.items() if scale not in (1e2, 1e3))
MONEY = re.compile(
    rf"{CURRENCY_AFTER.pattern}|{CENTS.pattern}|{PERCENT.pattern}|[ -](?:{_LARGE}|stars?){END}", re.IGNORECASE
)
"""What shows that a number word is a number: a currency, a percent sign, `million` or `stars` after it."""
LATEX_FRACTION = re.compile(r"(\d{1,9})?\\[dt]?frac\{(-?\d{1,9})\}\{(\d{1,9})\}")
EAST_FRACTION = re.compile(rf"([\d{EAST}]{{1,9}}) ?(?:分の|分之|분의) ?([\d{EAST}]{{1,9}})")
"""`3分の2`: two thirds, the parts first."""
MIXED = re.compile(r"(?<![\d.,/])(?:(\d{1,4})[ -])?(\d{1,2})/([23468]|16|32)(?![\d/])(?![.,]\d)")
"""Halves to thirty-seconds; of other denominators (`8/10`) the first number is the rating."""
TWO_PARTS = re.compile(r"(?<=\d)(€|£|\$)(\d\d)(?![\d.,])|(?<=\d) (euros?|pounds|dollars) (\d\d)(?=\W*$)")
"""`45€50`."""
_HANGUL_DIGIT = "[영일이삼사오육칠팔구십백천만억조]"
HANGUL = re.compile(
    rf"(?<![\d가-힣])(?<!\d )(?:[십백천만]|{_HANGUL_DIGIT}(?: ?{_HANGUL_DIGIT})+)(?= ?(?:원|달러|유로))"
)
"""A number all in hangul, only before a currency: its syllables are those of many words (`사원` is an employee)."""
GLUED_BEFORE = re.compile(rf"[{LETTER}][-_]?\Z(?<!\d[kKmMbB]-)|(?<![{LETTER}])(?!R)[{LETTER}]\d{{1,4}}-\Z")
GLUED_AFTER = re.compile(rf"(?<!\d\d)[DG]{END}|[{LETTER}]*[A-ZÀ-Þ\d]")
HYPHENED = re.compile(r"-[A-Z][a-z]{2}")
"""After a number that begins a name: `7-Eleven`."""
DATED = re.compile(
    r"(?:\b(?:in|since|until|till|up to|before|after|during|early|late|mid|seit|bis|depuis|desde|hasta|em|nel|dal"
    r"|between|from|zwischen|entre|von|as of|copyright|(?<!divided )(?<!multiplied )by)|©)[ -]$",
    re.IGNORECASE,
)
EDITION = (re.compile(r"\b(?:the|an?|this|his|her|its)\s$", re.IGNORECASE), re.compile(r" [^\W\d_]++(?<!s)(?<!people)"))
"""Before and after a year that tells which: `the 2020 edition`."""
POWER_OF_TEN = re.compile(r"(?P<times>[x×*]|\\times)?(?P<space> ?)(?<![\d.])10\^\{?(?P<power>-?\d{1,2})\}?(?!\d)")
CHANGE = re.compile(
    r"\b(?:up from|down from|discount|marked|slash|surg|soar|plung|shr[aiu]nk|lower|expand|improv|slip|increas"
    r"|decreas|r[oi]s(?:e|ing)|fell|fall|drop|declin|reduc|rais|went|gone|goes|go|grew|grow|climb|jump"
    r"|cut|lower|sank|sunk|moved|changed|takes?|took|stieg|sank|fiel|gestiegen|gefallen|gesenkt|passe|baiss"
    r"|augment|subió|bajó"
    r"|выросл|упал)\w{0,6}\b(?:[^.!?\n]|\.(?=\d)){0,60}$",
    re.IGNORECASE,
)
DOWN_TO = re.compile(r"\bdown to\s*$", re.IGNORECASE)
AT_FIRST = re.compile(r"\b(?:at first|first (?:guess|say|said|thought)|initially)\b[^.!?\n\d]{0,25}$", re.IGNORECASE)
HEADED = re.compile(
    r"(?:^|[\n.!?;] ?)\W*(?:(?:my|the|estimated|best|predicted) )*(?:price|answer|estimate|value|prediction"
    r"|result) ?\W{0,3}[:=]"
    r"\W*$",
    re.IGNORECASE,
)
"""Before a number that is given in so many words: `Price: $380`."""
CHANGED_TO = re.compile(r"\b(?:to|auf|à|a|до)\s*$", re.IGNORECASE)
EACH = re.compile(r"\s?/?(?:each|apiece|a piece|per (?:unit|item|piece)|pro Stück|chacun|cada un[oa])\b", re.IGNORECASE)
LESS = re.compile(r"\s?(?:off|discount|rebate|cheaper|less)\b", re.IGNORECASE)
ONE_IN = re.compile(r" in \d")
SCALE_OF = re.compile(r"(?:\b1 in|\bout of|\bvon insgesamt|sur un total de)\s$", re.IGNORECASE)
"""Before the end of a scale: `71 out of 100`."""
RANGE_OF_MONEY = re.compile(rf"[{SIGNS}] ?\d[\d.,]{{0,12}} ?[-–—] ?$")
TOTAL = re.compile(
    r" ?(?:(?:[a-z]+ ){0,2}in (?:total|all)|total|altogether|all together|combined|overall|insgesamt|au total"
    r"|en total|in totale)\b| ?(?:[a-z]+ )?(?:left|remaining|remain)(?: over)?[.!]?\s*$",
    re.IGNORECASE,
)
GUESSED = re.compile(
    r"[^.!?\n\d]{0,20}\b(?:is|being|as|would be|seems) (?:my|the|a|an) (?:\w+ ){0,2}(?:guess|estimate|answer|bet)\b",
    re.IGNORECASE,
)
"""After a number that is the answer: `$18 being my best guess`."""
LOWEST = re.compile(r"\b(?:min(?:imum)?|low(?:er|est)?)\b[\s:=\"']*$", re.IGNORECASE)
TO_HIGHEST = re.compile(r"[\s,;\"']*(?:and )?\b(?:max(?:imum)?|high(?:er|est)?|upper)\b[\s:=\"']*", re.IGNORECASE)
SURE = re.compile(r"\s?(?:sure|certain|confident|confidence|probability|chance|likely)\b", re.IGNORECASE)
COUNTED = re.compile(
    rf"\s(?:of (?:them|these|those|it)\b|(?!(?:is|was|as|this|plus|minus|less|times)\b)(?:[a-z]+ )?[a-z]{{3,}}s{END})"
)
LONG_DECIMALS = re.compile(r"\d+,\d{4,}")
"""What is no amount where a comma separates thousands: `$1,2345`."""
DIMENSION_AFTER = re.compile(r"(?:[ -]?(?:[cm]?m|in(?:ch(?:es)?)?|ft|feet|px)\.?|[\"″'])? ?[x×] ?\d")
DIMENSION_BEFORE = re.compile(r"\d(?:[ -]?(?:[cm]?m|in(?:ch(?:es)?)?|ft|feet|px)\.?|[\"″'])? ?[x×] ?$")
"""Around a length by a width, as in `12 in x 8 in`, of which neither is the answer."""
NUMERAL_BEFORE = re.compile(r"(?:^|[はをが是為为약:=≈約约]|大约|およそ|だいたい|等于)\s*$")
NUMERAL_AFTER = re.compile(
    rf"\s*(?:(?:到|至|から|[~〜-])(?=[{EAST}])|です|でしょう|だと|ぐらい|くらい|ほど|左右|个"
    rf"|[個本枚人度歳点件回%]|[^\w\s]|$)"
)
NAMERS = {"error", "chapter", "section", "figure", "article", "room", "route", "version", "model"}
NAME_GOES_ON = re.compile(r" [A-Z][a-z]")
NOT_NOW = re.compile(
    r"\b(?:not|originally|formerly|than|first|initial(?:ly)?|original|old|previous|regular|former|usual"
    r"|list)\b[^.!?\n]{0,30}$",
    re.IGNORECASE,
)
DECIMAL_COMMA = re.compile(
    r"\d,\d{1,2}(?![\d,])|\d\.\d{3} ?(?:" + POINT_THOUSANDS.pattern.replace(r"\b", "") + r")(?!\w)", re.IGNORECASE
)
"""A sign that the text writes decimal commas, and so points between thousands."""
