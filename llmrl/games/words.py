"""Words of five letters, written down for this project: common English ones, in no particular order."""

_TEXT = """
crane slate eerie apple bread chair dance eagle flame grape house image juice knife lemon mango night ocean piano
queen river stone table uncle voice water youth zebra actor beach cloud dream earth field glass heart ideal jelly
label maple novel onion plant quiet robot sheep tiger urban vivid whale yield amber blaze coral drift elbow fancy
giant hotel ivory judge karma laser metal nurse olive pearl query radio sugar toast unity valve wheat young about
badge cabin daily early fable globe happy index joint koala light magic noble opera paint quick royal smile think
upper visit wagon angle brave candy depth elite frost green honey inner jolly kneel lunar mouse north orbit peace
quilt ranch solar tower usual virus watch alarm brick chess delta empty fruit guard horse issue jumbo knock local
month nylon order photo quote reach shelf track ultra vapor worry adult brain coast dozen enjoy floor grass humor
irony known lucky motor nerve other phase radar scale trade under value white allow black climb drain equal front
great hurry input large money nasty offer point ready sharp teeth until video wound award blend clean doubt every
false group hover layer minor ought place raise space thick untie vague waste alive board cause devil entry faint
grand hello leave match never ounce price right sound tempo unite voter world again basic carry drive event fight
guide heavy learn model newly outer proud round south tired usher while above birth catch dirty exact final ghost
honor lobby mayor naive organ pride reply steam truth venue witch ahead bloom chase dress elect fiber giddy hobby
logic medal noisy owner power rural stick tribe vocal widow arrow bound civic dough erase flute grave hinge lower
merit oasis panel ridge storm twist vault wheel aisle bonus craft diary eight forum graph hatch legal
"""
WORDS = tuple(_TEXT.split())
"""About 300 words; those that stand first serve as shorter lists."""
