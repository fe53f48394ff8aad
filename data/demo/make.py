#!/usr/bin/env python3
"""Writes train.jsonl and heldout.jsonl of the demo, both from the lists below; the same bytes each time.

The task. Whatever is asked, in English or Korean, the model answers in one strict JSON form, as the front
end of a help desk or a search box would want it:

    {"lang":"en","type":"question","subject":"solar eclipses"}

  lang     the question's language: en or ko (a Korean question about DNA is ko)
  type     question where it is put as one ("Can you explain…?" is), request where it is not ("Tell me…")
  subject  what the question is about, copied from it letter by letter: without article or quotation
           marks, in Korean without the particle that follows it

Training rows are frames ("Why do people like {X}?") filled with subjects of the kinds that fit the frame, so
that every row is something a person would ask. A frame is used as often as any other, a subject as seldom as
can be; ties are broken by a hash, so the order of the lists below does not matter much and there is no random
state. The 50 held-out questions are written one by one. main() refuses to write if a held-out question shares
its frame or its subject with a training row, or if a subject does not occur exactly once in its question.

English frames: {X} subject (with a capital where it opens the sentence), {is} {does} {was} {it} agree with it.
Korean frames: {이} {은} {을} {이란} follow the subject and become 이/가, 은/는, 을/를, 이란/란 by its last sound.

Usage: python3 data/demo/make.py [--out DIR] [--check]     (--check compares with the files, writes nothing)
Needs Python 3.8 or later and nothing else. All text was written for this repository.
"""
import argparse
import hashlib
import json
import os
import re
import sys

KEYS = ("lang", "type", "subject")         # the order is part of the form
EN_ROWS, KO_ROWS = 158, 92

# ---- subjects: kind -> names; a star marks a plural -------------------------------------------------------
EN_SUBJECTS = {
    "idea": ["photosynthesis", "gravity", "inflation", "evolution", "magnetism", "democracy", "static electricity",
             "compound interest", "supply and demand", "machine learning", "natural selection", "DNA", "osmosis", "entropy",
             "ocean tides*", "sound waves*", "solar eclipses*", "rainbows*", "thunderstorms*", "volcanoes*"],
    "animal": ["penguins*", "blue whales*", "honey bees*", "giant pandas*", "octopuses*", "red foxes*", "hummingbirds*",
               "sea turtles*", "snow leopards*", "barn owls*", "African elephants*", "fireflies*", "wild horses*",
               "axolotls*", "woodpeckers*", "king cobras*"],
    "food": ["kimchi", "sourdough bread", "miso soup", "dark chocolate", "green tea", "apple pie", "tofu", "maple syrup",
             "goat cheese", "hot and sour soup", "peanut butter", "Greek yogurt", "guacamole", "ratatouille",
             "pancakes*", "fish tacos*"],
    "place": ["Kyoto", "Lake Baikal", "Mount Fuji", "New Zealand", "Buenos Aires", "Iceland", "Angkor Wat", "Jeju Island",
              "Cape Town", "Machu Picchu", "Death Valley", "Prague", "Salt Lake City", "Reykjavik", "Zanzibar"],
    "person": ["Ada Lovelace", "Isaac Newton", "Frida Kahlo", "Vincent van Gogh", "Nikola Tesla", "Rosa Parks",
               "Leonardo da Vinci", "Cleopatra", "Jane Austen", "Alan Turing", "Louis Armstrong", "King Sejong",
               "Martin Luther King", "Florence Nightingale", "Mahatma Gandhi"],
    "thing": ["bicycles*", "solar panels*", "microwave ovens*", "umbrellas*", "electric cars*", "contact lenses*",
              "USB cables*", "ballpoint pens*", "zippers*", "vinyl records*", "wind turbines*", "hearing aids*",
              "accordions*", "sewing machines*"],
    "tech": ["YouTube", "eBay", "Wikipedia", "Minecraft", "PlayStation"],
    "code": ["JavaScript", "LaTeX", "GitHub"],
    "title": ["Romeo and Juliet", "Don Quixote", "Moby Dick", "Alice in Wonderland"],
    "skill": ["chess", "juggling", "public speaking", "rock climbing", "watercolor painting", "knitting", "calligraphy",
              "touch typing", "time management", "table tennis", "sign language", "bird watching", "taekwondo", "needlework"],
}
KO_SUBJECTS = {
    "sky": ["번개", "무지개", "지진", "구름", "태풍", "안개", "바람"],
    "idea": ["중력", "광합성", "세금", "저축", "경제", "환율", "우정", "진화", "DNA"],
    "animal": ["고래", "펭귄", "사자", "늑대", "여우", "거북", "곰", "꿀벌", "문어", "참새", "판다"],
    "food": ["김치", "비빔밥", "불고기", "라면", "만두", "떡국", "녹차", "치즈", "두부", "냉면", "김밥"],
    "place": ["서울", "부산", "경주", "파리", "런던", "한강", "백두산", "제주", "이집트", "뉴욕"],
    "site": ["경복궁", "남대문", "석굴암", "만리장성"],
    "person": ["세종대왕", "이순신", "장영실", "뉴턴", "모차르트", "안중근", "유관순", "링컨"],
    "thing": ["자전거", "시계", "우산", "안경", "연필", "냉장고", "카메라", "한복", "로봇", "세탁기"],
    "tech": ["유튜브", "인터넷", "GPS", "지하철"],
    "skill": ["수영", "바둑", "요리", "명상", "등산", "뜨개질", "사진 촬영", "독서", "탁구", "시간 관리"],
}

# ---- frames: type -> (frame, kinds it fits) ---------------------------------------------------------------
EN_FRAMES = {
    "question": [
        ("What {is} {X}?", "idea animal food thing skill tech"),
        ("What exactly {is} {X}?", "idea food tech title"),
        ("Can you explain {X} to me?", "code idea tech skill"),
        ("{X}? What {is} {it} exactly?", "tech title place"),
        ("What should I know about {X} before my trip?", "place"),
        ("We talked about {X} in class today. Can you sum it up?", "idea person title animal"),
        ("What makes {X} special?", "animal food place title"),
        ("Quick question: what {is} {X}?", "idea food tech"),
        ("What is \"{X}\" about?", "title"),
        ("I read about {X} yesterday, but it was too long. Can you shorten it?", "idea person animal"),
        ("If you had to explain {X} to an alien, what would you say?", "idea skill thing"),
        ("In two words: what {is} {X}?", "food idea tech"),
        ("Why {is} {X} important?", "idea skill animal"),
        ("Why {does} {X} matter?", "idea skill"),
        ("Why do people like {X}?", "food skill animal"),
        ("Why {is} {X} so popular?", "food skill tech place"),
        ("What is the reason that {X} {is} so famous?", "place title"),
        ("Why did {X} become famous?", "person"),
        ("Why should I care about {X}?", "idea animal skill"),
        ("Why are scientists interested in {X}?", "animal"),
        ("Why would anyone spend money on {X}?", "thing food"),
        ("Why do children love {X}?", "animal food"),
        ("Everyone in my office talks about {X}. Why?", "code tech person skill"),
        ("why {does} {X} cost so much", "thing"),
        ("My grandmother loves {X}. Why?", "food skill animal"),
        ("How {does} {X} work?", "idea thing tech"),
        ("How do I make {X}?", "food"),
        ("How can I get better at {X}?", "skill"),
        ("How can I learn {X} on my own?", "skill code"),
        ("How do I get to {X} by train or plane?", "place"),
        ("What is the best way to store {X}?", "food"),
        ("What is the cheapest way to travel to {X}?", "place"),
        ("How do scientists study {X}?", "animal"),
        ("How do {X} survive the winter?", "animal"),
        ("How should I clean {X}?", "thing"),
        ("hey, how do you pick good {X}?", "thing"),
        ("How long do {X} live?", "animal"),
        ("How much {does} {X} cost?", "thing food"),
        ("Our club starts {X} on Monday. What do we need?", "skill"),
        ("Where {is} {X}?", "place"),
        ("Where can I find {X}?", "animal food thing"),
        ("Where can I buy {X} near me?", "food thing"),
        ("Where {does} {X} come from?", "food animal"),
        ("In which country {is} {X}?", "place"),
        ("Where on the map should I look for {X}?", "place"),
        ("Where was {X} born?", "person"),
        ("Where did {X} grow up?", "person"),
        ("Where could my son take lessons in {X}?", "skill"),
        ("When was {X} born?", "person"),
        ("When did {X} live?", "person"),
        ("When {was} {X} invented?", "thing"),
        ("When is the best time to visit {X}?", "place"),
        ("When do people usually eat {X}?", "food"),
        ("When did people start using {X}?", "thing tech"),
        ("When was {X} first published?", "title"),
        ("Who was {X}?", "person"),
        ("Who invented {X}?", "thing"),
        ("Do you know who {X} was?", "person"),
        ("Who uses {X} these days?", "code thing tech"),
        ("Who wrote {X}?", "title"),
        ("{X} - who was that?", "person"),
        ("What did {X} do that was so important?", "person"),
        ("Are there any good films about {X}?", "animal place person"),
        ("Tell me honestly, {is} {X} healthy?", "food"),
        ("Is it hard to learn {X}?", "skill code"),
        ("Can {X} see in the dark?", "animal"),
        ("Is {X} worth a visit?", "place"),
        ("What is the weather like in {X}?", "place"),
        ("Do you think {X} will still exist in a hundred years?", "animal thing tech"),
        ("Which book about {X} should I read first?", "person idea place animal"),
        ("What would the world be like without {X}?", "thing tech animal idea"),
        ("Which drink goes well with {X}?", "food"),
        ("The kids keep asking for {X}. Is that a good idea?", "food thing"),
        ("Could you write a haiku on {X}?", "animal idea place"),
    ],
    "request": [
        ("Tell me about {X}.", "code idea animal food place person thing tech title skill"),
        ("{X}, in one sentence please.", "place person tech title"),
        ("Give me a short introduction to {X}.", "code idea tech skill title"),
        ("Describe {X} in plain words.", "idea animal thing place"),
        ("My daughter asked me about {X} and I had no answer.", "idea animal person title"),
        ("i need some facts about {X} for school", "animal place person idea"),
        ("Define \"{X}\".", "idea skill"),
        ("Summarise {X} for a beginner.", "idea title"),
        ("Help me understand {X}.", "code idea tech title"),
        ("Three facts about {X}, please.", "animal food place person thing"),
        ("Please teach me the basics of {X}.", "code idea skill"),
        ("Before my exam I must understand {X}. Help!", "idea title"),
        ("Show me how to prepare {X} at home.", "food"),
        ("Give me some tips for {X}.", "skill"),
        ("I want to try {X} but don't know how to begin.", "skill"),
        ("I wonder why {X} {is} so hard to learn.", "skill"),
        ("You are my guide. Show me around {X}.", "place"),
        ("Compare the good and bad sides of {X}.", "thing tech skill"),
        ("Translate \"{X}\" into French.", "animal thing"),
        ("Give me a quiz question on {X}.", "person place animal title"),
        ("For my blog I need a paragraph on {X}.", "food place person tech skill"),
        ("Write a short poem about {X}.", "animal place food idea"),
        ("Write a two-line joke about {X}.", "animal thing food skill"),
        ("Compose a song about {X}.", "animal place person"),
        ("I need a slogan for {X}.", "food thing skill place"),
        ("Make up a bedtime story with {X} in it.", "animal"),
        ("Draft an email to my team about {X}.", "code tech skill"),
        ("Give me a catchy headline about {X}.", "tech animal person food"),
    ],
}
# A model that hardly knows Korean cannot tell a lead-in (why, my friend, nowadays) from a subject unless it has
# seen it: frames that do not open with the subject share a dozen lead-ins, and so do the held-out questions.
KO_FRAMES = {
    "question": [
        ("{X}{이} 뭐예요?", "idea food tech"),
        ("{X}{이란} 무엇입니까?", "idea skill sky"),
        ("{X} 좀 설명해 줄래?", "idea thing tech sky"),
        ("{X}{은} 어떤 곳인가요?", "place site"),
        ("{X}{은} 어떤 동물이야?", "animal"),
        ("{X}{은} 왜 중요한가요?", "idea skill tech"),
        ("{X}{은} 왜 인기가 많아요?", "food tech skill"),
        ("{X}{은} 어떻게 만들어요?", "food thing"),
        ("{X}{을} 어떻게 시작하면 좋을까요?", "skill"),
        ("{X}까지 어떻게 가나요?", "place site"),
        ("{X}{은} 겨울을 어떻게 보내나요?", "animal"),
        ("{X}{은} 어디에 있나요?", "place site"),
        ("{X}{을} 어디서 살 수 있어요?", "food thing"),
        ("{X}{은} 언제 태어났나요?", "person"),
        ("{X}{은} 언제 처음 나왔어요?", "thing tech"),
        ("{X}{이} 살았던 때는 언제입니까?", "person"),
        ("{X}{은} 누구예요?", "person"),
        ("{X}{은} 언제 지었나요?", "site"),
        ("{X}{은} 얼마나 오래되었어요?", "site"),
        ("{X}에 얽힌 옛날이야기가 있을까?", "site person"),
        ("{X} 속에는 무엇이 들어 있나요?", "food"),
        ("{X}{을} 처음 본 사람은 누구일까?", "animal"),
        ("{X}{이} 많이 사는 곳은 어디예요?", "animal"),
        ("{X}{을} 파는 가게가 이 근처에 있어요?", "food thing"),
        ("{X}{을} 먹을 때 조심할 점이 있나요?", "food"),
        ("{X}{을} 그린 그림은 어디서 보나요?", "person place site"),
        ("{X}{이} 지나간 뒤에는 뭘 하죠?", "sky"),
        ("{X}{을} 오래 쓰려면 뭘 알아야 해요?", "thing"),
        ("{X}{이} 없던 때에는 어떻게 살았죠?", "tech thing"),
        ("{X}, 아이도 할 수 있나요?", "skill"),
        ("왜 {X}{이} 생기나요?", "sky"),
        ("왜 {X}{을} 배워야 하죠?", "skill idea"),
        ("왜 {X}{이} 그렇게 유명해요?", "place person site"),
        ("누가 {X}{을} 발명했나요?", "thing"),
        ("누가 {X}{을} 처음 만들었어?", "food tech"),
        ("언제 {X}에 가면 좋을까요?", "place site"),
        ("언제 {X}{을} 볼 수 있어요?", "animal"),
        ("어디서 {X}{을} 배울 수 있을까요?", "skill"),
        ("어디서 {X}{을} 사면 싸죠?", "food thing"),
        ("혹시 {X}{을} 아세요?", "person tech idea"),
        ("혹시 {X}{은} 위험한가요?", "animal sky skill"),
        ("정말 {X}{은} 건강에 좋아요?", "food skill"),
        ("정말 {X}{이} 그렇게 재미있나요?", "skill tech"),
        ("요즘 {X} 값은 얼마예요?", "food thing"),
        ("요즘 {X} 날씨는 어때요?", "place"),
        ("요즘 {X} 뉴스가 많네요. 무슨 일이죠?", "idea tech sky"),
        ("친구가 {X}{을} 배우재요. 할까요?", "skill"),
        ("친구가 {X}{을} 무서워해요. 왜죠?", "animal sky"),
        ("친구가 {X}에 다녀왔대요. 어떤 곳이죠?", "place site"),
        ("사람들은 왜 {X}{을} 좋아하나요?", "food animal skill"),
        ("사람들은 {X}{을} 어떻게 쓰나요?", "thing tech"),
        ("사람들은 {X}{을} 보면 무슨 생각을 할까?", "sky animal"),
        ("오늘 {X} 시험이 있어요. 뭘 외울까요?", "idea"),
        ("우리 {X}에 대해 이야기해 볼까요?", "idea person food sky"),
        ("우리 {X}{을} 보러 갈까요? 얼마나 걸려요?", "place site"),
    ],
    "request": [
        ("{X}에 대해 알려 주세요.", "idea animal food place person thing tech skill sky"),
        ("{X}{을} 한 문장으로 설명해 줘.", "idea animal place person tech sky"),
        ("{X}의 특징을 세 가지만 알려 주세요.", "animal food place"),
        ("{X}{이} 유명한 이유를 말해 줘.", "place person site"),
        ("{X}{이} 필요한 이유가 궁금합니다.", "thing idea tech"),
        ("{X} 만드는 법을 알려 줘.", "food"),
        ("{X} 고르는 요령 좀 알려 줘.", "thing"),
        ("{X}의 위치를 알려 주세요.", "place site"),
        ("{X}에 대한 짧은 시를 써 줘.", "animal place thing sky"),
        ("{X}{을} 주제로 일기를 써 주세요.", "skill food"),
        ("{X}{이} 주인공인 이야기를 써 줘.", "animal thing"),
        ("{X}{이} 들어간 문장을 적어 주세요.", "thing animal idea"),
        ("{X} 퀴즈를 재미있게 내 줘.", "animal place person"),
        ("{X}{을} 잘 몰라요. 기본만 가르쳐 주세요.", "skill idea tech"),
        ("'{X}'의 뜻을 알고 싶어요.", "idea sky"),
        ("왜 {X}{이} 훌륭한 사람인지 말해 줘.", "person"),
        ("누가 {X}{을} 지었는지 알려 주세요.", "site"),
        ("언제 {X}{을} 먹는지 알려 줘.", "food"),
        ("요즘 {X}{을} 배워요. 요령을 알려 줘.", "skill"),
        ("친구가 {X} 얘기만 해요. 저도 알고 싶어요.", "tech animal"),
        ("오늘 {X}{을} 배웠어요. 요약해 주세요.", "idea person sky"),
        ("오늘 {X}{을} 만들고 싶어요. 도와주세요.", "food"),
        ("우리 {X} 여행 계획을 짜 줘.", "place"),
    ],
}

# ---- held-out questions: type -> questions with the subject in [brackets] ---------------------------------
EN_HELDOUT = {
    "question": [
        "What's the deal with [black holes]?",
        "Have you got any information on [Marie Curie]?",
        "Could you shed some light on [quantum computing]?",
        "what the heck is [cryptocurrency]",
        "Would you mind explaining [origami]?",
        "My neighbour keeps raving about [kombucha]. What's in it?",
        "I have to give a talk on [Genghis Khan] tomorrow. What are the main points?",
        "How come [cicadas] are so loud in summer?",
        "What causes [earthquakes]?",
        "Honestly, I don't get [abstract art]. What's the point?",
        "What made [TikTok] take off so quickly?",
        "Is there an easy recipe for [banana bread]?",
        "Any advice for someone who is new to [archery]?",
        "What steps are involved in [paper recycling]?",
        "What's the right way to brew [jasmine tea]?",
        "Got any tricks for [crossword puzzles]?",
        "How should a nervous person approach [ice hockey]?",
        "On which continent does [Timbuktu] lie?",
        "Could you point me to [Lisbon] on a globe?",
        "Whereabouts do [polar bears] roam?",
        "Where would a tourist go to see [Niagara Falls]?",
        "How safe are [hot air balloons] nowadays?",
        "On what date was [Instagram] released?",
        "In what century did [Michelangelo] paint?",
        "Whose idea was [daylight saving time]?",
        "I keep seeing the name [Nelson Mandela]. Who is that?",
        "Who is the author behind [Beauty and the Beast]?",
    ],
    "request": [
        "I'd love to hear more about [coral reefs].",
        "Explain the reasons behind the success of [Harry Potter].",
        "Name the inventor of [dynamite].",
        "Please put together a short speech on [climate change].",
        "A limerick about [hedgehogs], if you don't mind!",
        "Come up with a tongue twister featuring [squirrels].",
    ],
}
KO_HELDOUT = {
    "question": [
        "[블랙홀]이 대체 뭔가요?",
        "[윤동주] 이야기를 들려줄래?",
        "[비타민], 쉽게 풀어서 말해 줄 수 있어?",
        "[낙엽]이 지는 까닭이 뭘까?",
        "왜 [모기]는 여름마다 극성일까요?",
        "[한옥]을 칭찬하는 사람이 많은데, 이유라도 있나요?",
        "[피아노]를 잘 치려면 어떻게 해야 하죠?",
        "[에펠탑]이 세워진 나라는 어디죠?",
        "[호주]는 지도에서 어디쯤이에요?",
        "사람들은 [커피]를 언제부터 마셨죠?",
        "[불국사]는 어느 시대에 지어졌어요?",
        "[전구]를 발명한 사람 이름이 뭐였지?",
        "[박지성]이라는 이름을 들었는데 누구인가요?",
    ],
    "request": [
        "친구가 [홍차]를 좋아한대요. 그게 어떤 건지 궁금해요.",
        "[된장찌개] 끓이는 순서를 차근차근 말해 줘.",
        "[봄비]로 시 한 편 지어 봐.",
        "[토끼]가 나오는 동화를 하나 만들어 주세요.",
    ],
}

AGREE = {"is": ("is", "are"), "does": ("does", "do"), "was": ("was", "were"), "it": ("it", "they")}
PARTICLES = {"이": ("이", "가"), "은": ("은", "는"), "을": ("을", "를"), "이란": ("이란", "란")}
LATIN_FINAL = {"DNA": False, "GPS": False}          # read 디엔에이, 지피에스: both end in a vowel


def rank(*parts):
    """A number that orders things at random, but the same way on every machine."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def final_consonant(word):
    """Whether a Korean word (or a Latin one of the table) ends in a consonant; U+AC00 + 28 n + final."""
    return LATIN_FINAL[word] if word in LATIN_FINAL else (ord(word[-1]) - 0xAC00) % 28 != 0


def fill_en(frame, name):
    """(question, subject as it stands there) for an English frame; a plural's star decides the agreement."""
    plural, subject = name.endswith("*"), name.rstrip("*")
    if frame.startswith("{X}"):
        subject = subject[0].upper() + subject[1:] if subject != "eBay" else subject
    return frame.format(X=subject, **{k: v[plural] for k, v in AGREE.items()}), subject


def fill_ko(frame, name):
    """(question, subject) for a Korean frame, its particles chosen by the subject's last sound."""
    return frame.format(X=name, **{k: v[not final_consonant(name)] for k, v in PARTICLES.items()}), name


def rows_of(lang, frames, subjects, fill, count):
    """`count` rows: the frames again and again in a new order, each with its least used fitting subject.

    A frame is not given the same subject twice."""
    table = [(frame, form, kinds.split()) for form, fs in frames.items() for frame, kinds in fs]
    used, taken, rows = {n: 0 for ns in subjects.values() for n in ns}, set(), []
    for turn in range(count // len(table) + 1):
        # Frames with few kinds choose first in each turn: the others find a subject anyway.
        for frame, form, kinds in sorted(table, key=lambda t: (len(t[2]), rank(lang, str(turn), t[0]))):
            fit = [n for k in kinds for n in subjects[k] if (frame, n) not in taken]
            if not fit:
                continue
            name = min(fit, key=lambda n: (used[n], rank(lang, str(turn), frame, n)))
            used[name] += 1
            taken.add((frame, name))
            question, subject = fill(frame, name)
            rows.append((turn, rank(question), question, dict(zip(KEYS, (lang, form, subject))), frame))
    # The last turn is not used whole: which of its rows remain is left to the hash.
    rows.sort(key=lambda r: r[:2])
    return [r[2:] for r in rows[:count]]


def heldout_of(lang, questions):
    """[(question, answer, frame)] of the hand-written questions."""
    out = []
    for form, marked in [(f, m) for f, ms in questions.items() for m in ms]:
        subject = re.search(r"\[(.*)\]", marked).group(1)
        out.append((marked.replace("[", "").replace("]", ""), dict(zip(KEYS, (lang, form, subject))),
                    marked.replace("[" + subject + "]", "{X}")))
    return out


def bare(frame):
    """A frame without what tells apart neither wording nor meaning: case, punctuation, particles, agreement."""
    frame = re.sub(r"\{X\}(\{\w+\}|이라는|이|가|은|는|을|를)?", "X", frame)
    return re.sub(r"[^\w{}]+", " ", frame).strip().lower()


def faults(train, heldout):
    """What is wrong with the rows, in words; an empty list when they may be written."""
    bad = []
    for question, answer, _ in train + heldout:
        if question.count(answer["subject"]) != 1:
            bad.append("subject does not stand exactly once in: " + question)
    frames, subjects = {bare(r[2]) for r in train}, {r[1]["subject"].lower() for r in train}
    for question, answer, frame in heldout:
        if bare(frame) in frames:
            bad.append("held-out frame is trained on: " + question)
        if answer["subject"].lower() in subjects:
            bad.append("held-out subject is trained on: " + question)
    seen = [r[0] for r in train + heldout]
    bad += ["twice: " + q for q in set(seen) if seen.count(q) > 1]
    return bad


def lines(objects):
    """JSON lines, UTF-8, readable."""
    return "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects).encode()


def main():
    ap = argparse.ArgumentParser(description="write the demo's data set")
    ap.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    ap.add_argument("--check", action="store_true", help="compare with the files there; exit 1 if they differ")
    ap.add_argument("--show", action="store_true", help="print the questions for reading")
    a = ap.parse_args()
    train = rows_of("en", EN_FRAMES, EN_SUBJECTS, fill_en, EN_ROWS) + rows_of("ko", KO_FRAMES, KO_SUBJECTS, fill_ko, KO_ROWS)
    train.sort(key=lambda r: rank("order", r[0]))
    heldout = heldout_of("en", EN_HELDOUT) + heldout_of("ko", KO_HELDOUT)
    bad = faults(train, heldout)
    if bad:
        sys.exit("\n".join(bad))
    if a.show:
        for question, answer, _ in sorted(train, key=lambda r: (r[1]["lang"], r[1]["type"], r[2])):
            print(answer["lang"], answer["type"], answer["subject"], question, sep="\t")
    files = {
        "train.jsonl": lines({"messages": [{"role": "user", "content": q},
            {"role": "assistant", "content": json.dumps(r, ensure_ascii=False, separators=(",", ":"))}]} for q, r, _ in train),
        "heldout.jsonl": lines({"messages": [{"role": "user", "content": q}], "expected": r} for q, r, _ in heldout),
    }
    for name, data in files.items():
        path = os.path.join(a.out, name)
        if not a.check:
            with open(path, "wb") as f:
                f.write(data)
        elif not os.path.exists(path) or open(path, "rb").read() != data:
            sys.exit(path + " is not what this script writes")
    print("%d training rows (%d ko), %d frames en, %d ko; %d held-out questions (%d ko)" % (len(train), KO_ROWS,
        len({r[2] for r in train if r[1]["lang"] == "en"}), len({r[2] for r in train if r[1]["lang"] == "ko"}),
        len(heldout), sum(map(len, KO_HELDOUT.values()))))


if __name__ == "__main__":
    main()
