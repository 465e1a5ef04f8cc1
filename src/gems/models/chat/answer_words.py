"""Words that answers of chat models are made of, in the languages in which people prompt.

Each table has its words between bars: English first, then Chinese, Japanese and Korean, Spanish, French, German,
Portuguese and Italian, Russian, Arabic and Hindi, Turkish, Dutch, Polish, Vietnamese, Indonesian, Thai and Ukrainian.
Words that mean something else in another of these languages are left out, such as `si`.
"""

from __future__ import annotations

import re
import unicodedata

YES = """
    yes|yep|yeah|yup|y|true|affirmative|correct|that is correct|that's correct|
    definitely yes|certainly yes|absolutely yes|claro que sí|desde luego que sí|bien sûr que oui|mais oui|
    tout à fait|certo che sì|certamente sì|конечно да|конечно, да|ja klar|claro que sim|符合|
    是|是的|对|对的|没错|正确|對|對的|沒錯|正確|肯定的|是肯定的|
    はい|ええ|うん|イエス|そうです|その通りです|はいです|
    네|예|맞습니다|맞아요|그렇습니다|응|네입니다|예입니다|
    sí|si'|así es|correcto|afirmativo|oui|ouais|exact|ja|jawohl|richtig|stimmt|korrekt|sim|correto|sì|esatto|
    да|верно|правильно|так|نعم|أجل|صحيح|हाँ|हां|जी हाँ|जी हां|सही|
    evet|doğru|klopt|tak|có|đúng|vâng|ya|benar|ใช่|ใช่ครับ|ใช่ค่ะ|✅|✓|✔|☑|👍
"""
"""Words that say yes and nothing else."""
NO = """
    no|nope|nah|n|false|negative|incorrect|not at all|definitely not|certainly not|absolutely not|
    that is incorrect|leider nein|leider nicht|claro que no|bien sûr que non|certo che no|конечно нет|
    claro que não|不符合|
    否|不|不是|不是的|不对|错|并非如此|不對|錯|並非如此|不是这样的|不是這樣的|否定的|是否定的|
    いいえ|いえ|いや|ううん|ノー|違います|ちがいます|そうではありません|いいえです|
    아니요|아니오|아니|아뇨|아닙니다|틀립니다|그렇지 않습니다|아니요입니다|아니오입니다|
    negativo|incorrecto|non|pas du tout|nein|nee|nö|falsch|não|nao|incorreto|
    нет|неверно|неправильно|ні|لا|كلا|غير صحيح|خطأ|नहीं|नही|जी नहीं|ना|गलत|
    hayır|hayir|yanlış|neen|nie|không|sai|tidak|bukan|ไม่ใช่|ไม่|ไม่ใช่ครับ|ไม่ใช่ค่ะ|❌|✗|✘|✖|👎
"""
"""Words that say no and nothing else."""
PARTLY = """
    partially|partly|only partially|only partly|in part|partially met|not quite|not entirely|not fully|
    not exactly|not completely|部分符合|部分是|部分的に|一部だけです|
    부분적으로|일부만 그렇습니다|
    parcialmente|en parte|solo en parte|partiellement|en partie|teilweise|zum teil|em parte|parzialmente|
    in parte|
    частично|отчасти|лишь отчасти|частково|جزئيا|आंशिक रूप से|kısmen|gedeeltelijk|deels|częściowo|một phần|
    sebagian|บางส่วน
"""
"""What is only partly so is not so."""
UNKNOWN = """
    unknown|unclear|n/a|uncertain|undetermined|未知|不明
"""
"""Words that decline to decide. Longer phrases need none: what is no verdict is unknown."""
LABELS = """
    answer|my answer|short answer|the answer|correct answer|answer to the question|answer to your question|
    answer here|verdict|conclusion|result|
    response|initial answer|initial guess|correction|assistant|
    答案|回答|答|结论|判断|結論|判斷|因此答案|所以答案|答え|解答|정답|답|답변|대답|결론|판정|respuesta|
    la respuesta|veredicto|conclusión|resultado|
    réponse|la réponse|résultat|antwort|die antwort|ergebnis|urteil|fazit|resposta|a resposta|veredito|
    conclusão|
    risposta|la risposta|verdetto|conclusione|ответ|правильный ответ|вывод|вердикт|результат|الإجابة|الجواب|
    النتيجة|الخلاصة|الرد|
    उत्तर|जवाब|निष्कर्ष|परिणाम|cevap|yanıt|sonuç|antwoord|conclusie|odpowiedź|wniosek|trả lời|câu trả lời|
    đáp án|kết luận|
    jawaban|kesimpulan|คำตอบ|ตอบ|สรุป|відповідь|висновок|
    よって答え
"""
"""What stands before an answer, with a colon or the like between them."""
FINAL_LABELS = """
    final answer|my final answer|final verdict|final|最终答案|最終答案|最終回答|最終的な答え|최종 답변|
    respuesta final|réponse finale|
    endgültige antwort|resposta final|risposta finale|итоговый ответ|окончательный ответ|الإجابة النهائية|
    अंतिम उत्तर|son cevap|
    definitief antwoord|ostateczna odpowiedź|jawaban akhir|остаточна відповідь
"""
"""Labels that take back what other labels said."""
THEREFORE = """
    therefore|thus|hence|so|donc|daher|also|portanto|quindi|значит|следовательно|所以|因此|したがって|따라서|
    إذن|इसलिए
"""
"""What leads to an answer without a colon."""
IS = """
    is|was|would be|lautet|ist|ist also|ist daher|est|est donc|es|é|è|هي|है|是|为|為|は|은|는
"""
"""What may stand between a label and its answer instead of a colon."""
HEDGES = """
    probably|likely|most likely|maybe|perhaps|possibly|presumably|i think|i guess|i believe|mostly|almost|
    kind of|sort of|more or less|i suppose|it might|it may|it could|there might|there may|there could|
    partially|partly|in part|but only|but not|except|it seems|可能|大概|也许|也許|应该|應該|好像|たぶん|多分|
    おそらく|아마|quizá|quizás|tal vez|
    probablemente|peut-être|probablement|vielleicht|wahrscheinlich|vermutlich|talvez|provavelmente|forse|
    probabilmente|
    возможно|наверное|скорее всего|ربما|على الأرجح|शायद|belki|misschien|może|chyba|có lẽ|mungkin|мабуть|можливо|
    if|assuming|unless|provided|depending|si la|si le|si les|si l'|si el|si los|si las|si on|si fuera|si fuese|
    se la|se il|se lo|se le|se gli|se a|se o|se as|se os|se fosse|falls|wenn|если|如果|もし|만약|إذا|अगर|
    it cannot|it can't|this cannot|that cannot|that can't|it is unclear|it is impossible|cannot|can't|unknown|
    unclear
"""
"""What takes a verdict back right behind it."""
DOUBTS = """
    i am not sure|i'm not sure|i am unsure|i'm unsure|not entirely sure|not certain|i can't be sure|
    i cannot be sure|i cannot be certain|
    i cannot tell|i can't tell|hard to tell|impossible to tell|
    although i cannot|though i cannot|although i can't|though i can't|but i cannot|but i can't|
    no estoy seguro|no estoy segura|je ne suis pas sûr|nicht sicher|não tenho certeza|non sono sicuro|
    non ne sono sicuro|
    не уверен|لست متأكدا|我不确定|不太确定|不确定|不確定|確信はありません|自信はありません|확실하지 않|पक्का नहीं
"""
"""What takes a verdict back anywhere behind it."""
BETWEEN = """
    also|but|yet|however|rather|maybe|perhaps|well|oh|then|even|is it|aber|doch|jedoch|auch|vielleicht|
    mais|enfin|plutôt|aussi|pero|mejor dicho|más bien|también|quizás|mas|porém|melhor|também|talvez|ma|però|
    anzi|anche|forse|но|а|хотя|может быть|لكن|ولكن|ربما|लेकिन|मगर|शायद|ama|fakat|belki|maar|misschien|ale|może|
    tapi|mungkin|nhưng|але|でも|しかし|ですが|また|하지만|그러나|그런데|또는
"""
"""What may stand between a verdict and another one that contradicts it."""
CORRECTIONS = """
    wait|actually|hmm|correction|i mean|second thought|scratch that|espera|en realidad|en fait|doch|хотя|等等|
    anzi|mejor dicho|más bien|ou plutôt|vielmehr|besser gesagt|точнее|вернее|melhor dizendo|或者说|というか|
    其实|其實|やはり|다시 보니
"""
"""What announces that a verdict is taken back."""


def normalize(text: str) -> str:
    """Return text in one spelling: no full-width letters, invisible characters, vowel points or special blanks."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub("[\u200b-\u200f\u2060\ufeff\ufe0f\u064b-\u0652\u0640\u0307]", "", text)
    return re.sub("[\u00a0\u202f\u3000\r]", " ", text)


def split_words(text: str) -> list[str]:
    """Split a table into its words, longest first."""
    words = (word.strip() for word in normalize(text).replace("\n", "|").split("|"))
    return sorted({word for word in words if word}, key=len, reverse=True)


def any_word(*tables: str) -> str:
    """Return a regular expression for any word of some tables, the longest first."""
    words = sorted({word for table in tables for word in split_words(table)}, key=len, reverse=True)
    return "|".join(re.escape(word) for word in words)


OPEN_QUESTION = re.compile(
    r"\W*(?:how|what|which|where|who|whose|when|why|count|name|list|describe"
    r"|wie|was|welche[rsnm]?|wo|wer|wann|warum|combien|quel(?:le)?s?|où|qui|quand|pourquoi|comment"
    r"|qué|cuánt[oa]s?|cuál(?:es)?|dónde|quién(?:es)?|cómo|quant[oiae]s?|qual[ei]?|quais|dove|onde|quem"
    r"|сколько|как(?:ой|ая|ое|ие)?|что|где|кто)\b"
    r"|.*(?:多少|什么|哪|几[个只条颗]|いくつ|何|どこ|몇|무엇|어디)(?!.*[吗嗎])",
    re.IGNORECASE,
)
"""Questions that neither yes nor no answers, in the languages in which people prompt."""
